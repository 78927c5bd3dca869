# Drives the machine of tests/guest/children: children.py SOCKET COUNT.
import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from control import Control, Gone, check  # noqa: E402

count = int(sys.argv[2])
control = Control(sys.argv[1])
names = [f"c{i}" for i in range(count)]
up = lambda texts: all("child: ready" in texts.get(name, "") for name in names)
check(f"{count} children come up", control.wait(up, 60 + 20 * count), [n for n in names if "child: ready" not in control.text.get(n, "")])
numbers = control.children()


def said(name, pattern):
    return re.findall(pattern, control.text.get(name, ""), re.M)


check("each is itself", all(said(name, r"^child: ready as (\S+)") == [name] for name in names))
# Each takes commands at its console, and only what is typed at its own.
for turn in range(2):
    for name in names:
        control.type(numbers[name], f"sum {name} {turn}\n")
    answered = lambda texts: all(said(name, rf"^sum {name} {turn} = [0-9a-f]+ ") for name in names)
    check(f"turn {turn}: each answers", control.wait(answered, 120), [n for n in names if not said(n, rf"^sum {n} {turn} = ")])
    check(f"turn {turn}: what each has in its memory is what it wrote", all(said(n, rf"^sum {n} {turn} = \S+ (\w+)") == ["right"] for n in names))
    time.sleep(4)  # idle: memory goes back to the host, what they have alike becomes one
sums = [said(name, rf"^sum {name} 1 = ([0-9a-f]+) ")[0] for name in names]
check("nobody has another's", len(set(sums)) == count)
# One after the other goes; those that are left work on.
half = names[::2]
for name in half:
    control.type(numbers[name], "off\n")
check("half of them power off", control.wait(lambda texts: all("Power down" in texts.get(n, "") for n in half), 60))
rest = [name for name in names if name not in half]
for name in rest:
    control.type(numbers[name], f"sum {name} 9\n")
check("the others go on", control.wait(lambda texts: all(said(n, rf"^sum {n} 9 = \S+ right") for n in rest), 60))
check("no kernel complains", all(not re.search(r"WARNING:|BUG:|Call Trace|lockup|stall|Oops|I/O error", text) for text in control.text.values()))
try:
    for name in rest:
        control.type(numbers[name], "off\n")
    control.wait(lambda texts: False, 20)
    check("the machine ends with the last", False)
except (Gone, ValueError):
    check("the machine ends with the last", True)
