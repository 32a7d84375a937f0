"""What a family is on a rank: its weights read, and its modules exchanged for layers over a clip, without a forward retyped."""
