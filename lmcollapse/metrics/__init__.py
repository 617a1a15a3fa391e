"""Measures: what is read off one generation.

A measure is a pure function of a scene (human text, what this generation wrote, scores); its keyword-only parameters
are its options. It returns readings whose values are finite or None, and a note that says why a value is None.
"""
