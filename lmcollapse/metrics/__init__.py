"""Measures: what is read off one generation, or off any text beside human text.

A measure is a pure function; its positional parameters name the parts of the scene that it looks at (`scene.py`), its
keyword-only ones are its options. It returns readings whose values are finite or None, and a note that says why a value
is None. Words are numbered (`numbering.py`), drawn at one fixed size and their n-grams counted by block of rows
(`sample.py`), from which intervals follow (`intervals.py`).
"""
