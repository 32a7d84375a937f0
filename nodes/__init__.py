"""The ComfyUI face: sockets and widgets -> Job; frames -> IMAGE. Only `host` asks ComfyUI for anything that has state."""
