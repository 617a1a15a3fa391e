"use strict";
(() => {
  const root = document.documentElement;
  const failed = (what) => { root.dataset.error = String(what); };
  addEventListener("error", (event) => failed(event.message));
  document.addEventListener("securitypolicyviolation", (event) => failed(event.violatedDirective));

  const data = JSON.parse(document.getElementById("data").textContent);
  const { generations, lines, measures, conditions, shown } = data;
  const byId = (id) => document.getElementById(id);
  const state = { measure: 0, log: false, zero: true, logx: data.logX, hidden: new Set(), document: 0 };

  // ---- the address keeps what was chosen ----
  const read = () => {
    if (!location.hash.includes("=")) return;
    const given = new URLSearchParams(location.hash.slice(1));
    const place = measures.findIndex((m) => m.name === given.get("measure"));
    state.measure = Math.max(0, place);
    const flag = (name, usual) => (given.has(name) ? given.get(name) === "1" : usual);
    state.log = flag("log", measures[state.measure].log);
    state.zero = flag("zero", true);
    state.logx = flag("logx", data.logX);
    const hidden = (given.get("hide") || "").split(",").filter(Boolean).map(Number);
    state.hidden = new Set(hidden.filter((n) => n >= 0 && n < conditions.length));
    state.document = Math.max(0, Number(given.get("document") || 1) - 1 || 0);
  };
  const write = () => {
    const found = new URLSearchParams({ measure: measures[state.measure].name });
    found.set("log", state.log ? "1" : "0");
    if (!state.zero) found.set("zero", "0");
    if (state.logx !== data.logX) found.set("logx", state.logx ? "1" : "0");
    if (state.hidden.size) found.set("hide", [...state.hidden].sort((a, b) => a - b).join(","));
    if (state.document) found.set("document", state.document + 1);
    history.replaceState(null, "", "#" + found);
  };

  // ---- numbers, ticks and scales, as chart.py has them ----
  const number = (value) => {
    if (value === null) return "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size < 1e-4 || size >= 1e7) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e-", "e-0").replace(/e-0(\d\d)/, "e-$1").replace(/e\+(\d)$/, "e+0$1");
    const digits = size < 1e4 ? { maximumSignificantDigits: 4 } : { maximumFractionDigits: 0 };
    return value.toLocaleString("en-US", digits).replace("-", "−");
  };
  const ticks = (low, high, log) => {
    if (log) {
      const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
      const step = Math.max(1, Math.ceil((last - first) / 6));
      for (const factors of [[1], [1, 2, 5], [1, 1.5, 2, 3, 5, 7]]) {
        const found = [];
        for (let n = first; n <= last; n += step) for (const f of factors) found.push(f * 10 ** n);
        const inside = found.filter((t) => t >= low && t <= high);
        if (inside.length >= 4) return inside;
      }
    }
    const found = [], raw = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(raw));
    const width = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw * 0.999);
    for (let n = Math.ceil(low / width - 1e-9); n <= Math.floor(high / width + 1e-9); n++) found.push(n * width);
    return found;
  };
  const scale = (low, high, start, end, log) => {
    const change = log ? Math.log : (v) => v, a = change(low), b = change(high);
    return (v) => start + ((end - start) * (change(v) - a)) / (b - a || 1);
  };

  // ---- drawing ----
  const SVG = "http://www.w3.org/2000/svg";
  const add = (parent, name, attributes = {}, text) => {
    const made = parent.namespaceURI === SVG || name === "svg" ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  };
  const style = (condition) => `c${condition % data.markers.length} d${Math.floor(condition / data.markers.length) % 4}`;
  const path = (points) => {
    let drawn = "", pen = "M";
    for (const p of points) {
      if (!p) { pen = "M"; continue; }
      drawn += `${pen}${p[0].toFixed(1)},${p[1].toFixed(1)}`;
      pen = "L";
    }
    return drawn;
  };
  const band = (low, high) => {
    let drawn = "", stretch = [];
    const end = () => {
      if (stretch.length > 1) drawn += "M" + [...stretch.map((s) => s[0]), ...stretch.map((s) => s[1]).reverse()].map((p) => p.map((v) => v.toFixed(1))).join("L") + "Z";
      stretch = [];
    };
    low.forEach((p, i) => (p && high[i] ? stretch.push([p, high[i]]) : end()));
    end();
    return drawn;
  };

  // What a chart shows: layers of {condition, name, values, low, high, kind, spread, seeds}
  const valueLayers = (measure) => {
    const layers = [];
    conditions.forEach((label, c) => {
      if (state.hidden.has(c)) return;
      const mean = measure.means[c], own = lines.map((line, i) => [line, i]).filter(([line]) => line[0] === c);
      if (measure.drift[c]) layers.push({ condition: c, kind: "drift", values: measure.drift[c], name: `${label}, neutral drift` });
      if (measure.theory[c]) layers.push({ condition: c, kind: "theory", values: measure.theory[c], name: `${label}, theory` });
      for (const [line, i] of own) {
        const [values, low, high] = measure.runs[i];
        layers.push({ condition: c, kind: mean ? "thin" : "line", values, low, high, spread: measure.spread[i], name: own.length > 1 || line[1] ? `${label}, ${line[1]}` : label });
      }
      if (mean) layers.push({ condition: c, kind: "line", values: mean[0], low: mean[1], high: mean[2], name: `${label}, mean of ${own.length} seeds` });
    });
    return layers;
  };
  const differenceLayers = (measure) => conditions.flatMap((label, c) => {
    const found = measure.differences[c];
    if (!found || state.hidden.has(c)) return [];
    return [{ condition: c, kind: "line", values: found[0], low: found[1], high: found[2], seeds: found[3], name: `${label} less ${data.against}` }];
  });

  const charts = {};
  const draw = (id, layers, human, log, label) => {
    const host = byId(id);
    const focused = host.contains(document.activeElement);
    host.replaceChildren();
    const width = Math.max(280, Math.min(960, printing || host.clientWidth || 640)), height = Math.round(Math.max(260, Math.min(430, width * 0.56)));
    const L = 54, R = 18, T = 10, B = 38;
    const fits = (v) => v !== null && v !== undefined && (!log || v > 0);
    const rows = [...layers.flatMap((l) => [l.values, l.low, l.high, ...(l.spread || [])].filter(Boolean)), ...human];
    const known = rows.flat().filter(fits);
    const svg = add(host, "svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "application", tabindex: "0", "aria-roledescription": "chart", "aria-label": `${label} by generation. Arrow keys go from value to value.` });
    const chart = (charts[id] = { svg, host, points: [], at: null });
    if (!known.length) {
      add(svg, "text", { class: "tick", x: width / 2, y: height / 2, "text-anchor": "middle" }, conditions.length === state.hidden.size ? "no condition is shown" : log ? "no value above zero" : "no values");
      chart.tell = () => {};
      return;
    }
    let low = Math.min(...known), high = Math.max(...known);
    if (log) [low, high] = [low / 1.1, high * 1.1];
    else if (state.zero) [low, high] = [Math.min(0, 1.05 * low), Math.max(0, 1.05 * high)];
    else { const room = 0.06 * (high - low) || Math.abs(high) / 20 || 1; [low, high] = [low - room, high + room]; }
    if (high <= low) high = low + 1;
    const y = scale(low, high, height - B, T, log);
    const last = generations[generations.length - 1];
    const [x0, x1] = state.logx ? [1, Math.max(2, last + 1)] : [0, Math.max(1, last)];
    const across = scale(x0, x1, L + 8, width - R - 8, state.logx);
    const xs = generations.map((g) => across(state.logx ? g + 1 : g));
    for (const t of ticks(low, high, log)) {
      add(svg, "path", { class: "grid", d: `M${L},${y(t).toFixed(1)}H${width - R}` });
      add(svg, "text", { class: "tick", x: L - 6, y: (y(t) + 4).toFixed(1), "text-anchor": "end" }, number(t));
    }
    for (const t of ticks(x0, x1, state.logx)) if (state.logx || Number.isInteger(t)) add(svg, "text", { class: "tick", x: across(t).toFixed(1), y: height - B + 17, "text-anchor": "middle" }, number(t));
    add(svg, "text", { class: "tick", x: (L + width - R) / 2, y: height - 5, "text-anchor": "middle" }, state.logx ? "fits (generation + 1)" : "generation");
    for (const [value, a, b] of human) {
      if (fits(a) && fits(b)) add(svg, "rect", { class: "human", x: L, y: y(b).toFixed(1), width: width - L - R, height: (y(a) - y(b)).toFixed(1) });
      if (fits(value)) add(svg, "path", { class: "humanline", d: `M${L},${y(value).toFixed(1)}H${width - R}` });
    }
    if (low < 0 && high > 0) add(svg, "path", { class: "nothing", d: `M${L},${y(0).toFixed(1)}H${width - R}` });
    add(svg, "path", { class: "axis", d: `M${L},${T}V${height - B}H${width - R}` });
    const place = (row) => row.map((v, i) => (fits(v) ? [xs[i], y(v)] : null));
    layers.forEach((layer) => {
      const group = add(svg, "g", { class: style(layer.condition) });
      if (layer.spread) add(group, "path", { class: "spread", d: band(place(layer.spread[0]), place(layer.spread[1])) });
      if (layer.kind === "line" && layer.low) add(group, "path", { class: "band", d: band(place(layer.low), place(layer.high)) });
      const points = place(layer.values);
      add(group, "path", { class: layer.kind, d: path(points) });
      if (layer.kind === "line" && generations.length <= data.marked) {
        for (const p of points) if (p) add(group, "path", { class: "marker", d: data.markers[layer.condition % data.markers.length], transform: `translate(${p[0].toFixed(1)},${p[1].toFixed(1)})` });
      }
      chart.points.push({ layer, points });
    });
    const ring = add(svg, "circle", { class: "ring", r: 7, visibility: "hidden" });
    const tip = add(host, "div", { class: "tip", "aria-hidden": "true", hidden: "" });
    const said = add(host, "p", { class: "unseen", role: "status" });
    chart.tell = (layer, i, aloud) => {
      chart.at = [layer, i];
      const { layer: of, points } = chart.points[layer], p = points[i];
      const interval = of.low && of.low[i] !== null && of.high[i] !== null ? ` [${number(of.low[i])}, ${number(of.high[i])}]` : "";
      const seeds = of.seeds && of.seeds[i] !== null ? `\n${of.seeds[i]} ${of.seeds[i] === 1 ? "seed" : "seeds"}` : "";
      const words = `${of.name}\ngeneration ${generations[i]}: ${number(of.values[i])}${interval}${seeds}`;
      ring.setAttribute("cx", p[0]); ring.setAttribute("cy", p[1]); ring.setAttribute("visibility", "visible");
      tip.textContent = words;
      tip.hidden = false;
      const ratio = svg.getBoundingClientRect().width / width;
      const left = p[0] * ratio + 14, room = host.clientWidth - tip.offsetWidth;
      tip.style.left = `${left > room ? Math.max(0, Math.min(room, p[0] * ratio - 14 - tip.offsetWidth)) : left}px`;
      tip.style.top = `${Math.max(0, p[1] * ratio - tip.offsetHeight - 10)}px`;
      if (aloud) said.textContent = words.replaceAll("\n", ", ");
    };
    chart.quiet = () => { ring.setAttribute("visibility", "hidden"); tip.hidden = true; };
    svg.addEventListener("pointermove", (event) => nearest(chart, event, width));
    svg.addEventListener("pointerdown", (event) => nearest(chart, event, width));
    svg.addEventListener("pointerleave", () => { if (document.activeElement !== svg) chart.quiet(); });
    svg.addEventListener("focus", () => { if (svg.matches(":focus-visible")) step(chart, 0, 0); });
    svg.addEventListener("blur", () => chart.quiet());
    svg.addEventListener("keydown", (event) => {
      const ways = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -1e6], End: [0, 1e6] };
      if (event.key === "Escape") chart.quiet();
      if (!(event.key in ways) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      step(chart, ...ways[event.key]);
    });
    if (focused) svg.focus({ preventScroll: true });
  };
  const nearest = (chart, event, width) => {
    const box = chart.svg.getBoundingClientRect(), ratio = width / box.width;
    const x = (event.clientX - box.left) * ratio, y = (event.clientY - box.top) * ratio;
    let best = Infinity, found = null;
    chart.points.forEach(({ layer, points }, l) => points.forEach((p, i) => {
      if (!p) return;
      const distance = (p[0] - x) ** 2 + (p[1] - y) ** 2 + (layer.kind === "line" ? 0 : 30);
      if (distance < best) [best, found] = [distance, [l, i]];
    }));
    if (found && best < 60 ** 2) chart.tell(...found, false); else if (chart.quiet) chart.quiet();
  };
  const step = (chart, layers, along) => {
    const count = chart.points.length;
    if (!count) return;
    let [l, i] = chart.at || [chart.points.findIndex((p) => p.layer.kind === "line"), 0];
    l = (Math.max(0, l) + layers + count) % count;
    const there = chart.points[l].points.flatMap((p, n) => (p ? [n] : []));
    if (!there.length) return;
    const close = there.reduce((a, b) => (Math.abs(b - i) < Math.abs(a - i) ? b : a));
    chart.tell(l, there[Math.max(0, Math.min(there.length - 1, there.indexOf(close) + along))], true);
  };

  // ---- the tables of the same ----
  const fill = (id, caption, headings, columns) => {
    const table = byId(id);
    if (!table) return;
    table.caption.textContent = caption;
    table.closest("[role=region]").setAttribute("aria-label", caption);
    const head = table.tHead.rows[0], body = table.tBodies[0];
    head.replaceChildren();
    add(head, "th", { scope: "col" }, "generation");
    for (const heading of headings) add(add(head, "th", { scope: "col" }), "bdi", {}, heading);
    body.replaceChildren();
    for (const place of shown) {
      const row = add(body, "tr");
      add(row, "th", { scope: "row" }, String(generations[place]));
      for (const column of columns) {
        const [value, more] = column(place), cell = add(row, "td", {}, value);
        if (more) add(cell, "small", {}, more);
      }
    }
  };
  const cell = ([values, low, high], i) => number(values[i]) + (low[i] !== null && high[i] !== null ? ` [${number(low[i])}, ${number(high[i])}]` : "");
  const tables = (measure) => {
    const headings = [], columns = [], differing = [], differences = [];
    conditions.forEach((label, c) => {
      if (state.hidden.has(c)) return;
      const own = lines.flatMap((line, i) => (line[0] === c ? [[measure.runs[i], line[1]]] : [])), mean = measure.means[c];
      if (mean) { headings.push(label); columns.push((p) => [cell(mean, p), own.map(([run]) => number(run[0][p])).join(" · ")]); }
      else for (const [run, line] of own) { headings.push(own.length > 1 ? `${label}, ${line}` : label); columns.push((p) => [cell(run, p), ""]); }
      const gap = measure.differences[c];
      if (!gap) return;
      const numbers = new Set(gap[3].filter((n) => n !== null)), alike = numbers.size < 2, seeds = (n) => (n === null || n === undefined ? "" : `${n} seed${n === 1 ? "" : "s"}`);
      differing.push(alike ? `${label} (${seeds([...numbers][0])})` : label);
      differences.push((p) => [cell(gap, p), alike ? "" : seeds(gap[3][p])]);
    });
    fill("values", measure.label, headings, columns);
    fill("difference-values", `${measure.label}, less that of ${data.against}`, differing, differences);
  };

  // ---- all of it ----
  let printing = 0;
  const paint = () => {
    const measure = measures[state.measure];
    draw("chart", valueLayers(measure), measure.human, state.log, measure.label);
    byId("chart-caption").textContent = measure.label;
    if (byId("difference-chart")) {
      draw("difference-chart", differenceLayers(measure), [], false, `Difference in ${measure.label}`);
      byId("difference-caption").textContent = `${measure.label}, less that of ${data.against}`;
    }
  };
  const show = () => {
    byId("measure").value = String(state.measure);
    for (const name of ["log", "zero", "logx"]) byId(name).setAttribute("aria-pressed", String(state[name]));
    byId("zero").disabled = state.log;
    document.querySelectorAll(".toggle").forEach((toggle) => toggle.setAttribute("aria-pressed", String(!state.hidden.has(Number(toggle.dataset.condition)))));
    const documents = document.querySelectorAll(".document");
    state.document = Math.min(state.document, Math.max(0, documents.length - 1));
    if (documents.length) byId("document").value = String(state.document);
    documents.forEach((one, i) => { one.hidden = i !== state.document; });
    paint();
    tables(measures[state.measure]);
  };
  const change = (what) => { Object.assign(state, what); write(); show(); };

  byId("measure").addEventListener("change", (event) => { const measure = Number(event.target.value); change({ measure, log: measures[measure].log }); });
  for (const name of ["log", "zero", "logx"]) byId(name).addEventListener("click", () => change({ [name]: !state[name] }));
  document.querySelectorAll(".toggle").forEach((toggle) => toggle.addEventListener("click", () => {
    const hidden = new Set(state.hidden), condition = Number(toggle.dataset.condition);
    if (!hidden.delete(condition)) hidden.add(condition);
    change({ hidden });
  }));
  byId("document")?.addEventListener("change", (event) => change({ document: Number(event.target.value) }));
  addEventListener("hashchange", () => { read(); show(); });

  document.querySelectorAll("pre.copied").forEach((pre) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "copy";
    button.addEventListener("click", () => {
      const done = (word) => { button.textContent = word; setTimeout(() => { button.textContent = "copy"; }, 1500); };
      if (!navigator.clipboard) { getSelection().selectAllChildren(pre); done("selected"); return; }
      navigator.clipboard.writeText(pre.textContent).then(() => done("copied"), () => { getSelection().selectAllChildren(pre); done("selected"); });
    });
    const around = document.createElement("div");
    around.className = "copying";
    pre.before(around);
    around.append(button, pre);
  });

  const opened = [];
  addEventListener("beforeprint", () => {
    printing = 640;
    document.querySelectorAll("details.printed:not([open])").forEach((one) => { one.open = true; opened.push(one); });
    paint();
  });
  addEventListener("afterprint", () => { printing = 0; opened.splice(0).forEach((one) => { one.open = false; }); paint(); });

  root.classList.add("js");
  state.log = measures[0].log;
  read();
  show();
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width && !printing) { width = innerWidth; paint(); } });
  root.dataset.ready = "1";
})();
