"""Maths and comm behind a module's own signature: each layer equals diffusers' own on the whole video, or says how it differs.

Over a cut time axis: conv.py and attention.py, which exchange frames (exchange.py) along routes (view.py). Frame by frame, in
slices: frames.py, compiled.py. Not exact, and only if asked for: stale.py, reuse.py. What flows between layers: activation.py,
conditioning.py. Which UNet calls a step makes: guidance.py, turns.py, call.py. All are put in and taken out by patch.py.
"""
