"""Maths and comm behind a module's own signature: each layer equals diffusers' own on the whole video, or says how it differs.

Over a cut time axis, exchanging frames (exchange.py) along routes (view.py): conv.py and attention.py of a UNet, dual_scope.py of
a transformer, of which travel.py says what travels. Frame by frame or token by token, in slices: frames.py, cross_attention.py, tokens.py, compiled.py. Not exact, and only if asked for: stale.py, reuse.py. What flows between layers: activation.py,
conditioning.py. Which calls of the net a step makes: guidance.py, turns.py, call.py. All are put in and taken out by patch.py.
"""
