"""What a family is on a rank (model.py): its weights read, and its modules exchanged for layers over a clip, without a forward retyped.

A file a family: unet3d.py, and wan.py with wan_vae.py. table.py finds it by the family's name.
"""
