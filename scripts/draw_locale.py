"""Write `locales/en/nodeDefs.json` from the nodes themselves: `python -m scripts.draw_locale http://127.0.0.1:8188`.

The other languages are written by hand; tests/test_comfyui_nodes.py tells which of their lines are missing.
"""

import argparse
import json
from pathlib import Path

from scripts.draw_workflows import ask_nodes, input_list

ROOT = Path(__file__).resolve().parents[1]


def definition(info: dict) -> dict:
    """Return one node's texts in the form of ComfyUI's `nodeDefs.json`."""
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {name: {"name": name, "tooltip": spec[1]["tooltip"]} for name, spec in input_list(info)},
        "outputs": {str(place): {"name": name, "tooltip": tooltip} for place, (name, tooltip) in enumerate(outputs)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", help="such as http://127.0.0.1:8188")
    known = ask_nodes(parser.parse_args().server)
    texts = {node: definition(info) for node, info in sorted(known.items()) if node.startswith("VideoInfinity")}
    file = ROOT / "locales" / "en" / "nodeDefs.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(texts, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
