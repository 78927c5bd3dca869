# What the children of a machine say at their consoles until it ends: takein.py SOCKET DIRECTORY writes DIRECTORY/NAME.console.
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from control import Control, Gone  # noqa: E402

control = Control(sys.argv[1])


def keep(texts):
    for name, text in texts.items():
        with open(os.path.join(sys.argv[2], name + ".console"), "w") as file:
            file.write(text)
    return False


try:
    control.wait(keep, 920)
except (Gone, ValueError):
    keep(control.text)
