"""The specs that are measured (methods.txt), and what they take by definition."""

import dataclasses
import math
import pathlib

LIST = pathlib.Path(__file__).parent / "methods.txt"


@dataclasses.dataclass
class Method:
    spec: str
    bits: str  # an expression: see there
    marks: list

    def bits_of(self, shape, checkpoint_bits):
        """Of a matrix of this shape, its first axis rows, all others columns."""
        rows = shape[0]
        columns = 1
        for extent in shape[1:]:
            columns *= extent
        return eval(self.bits, {"__builtins__": {}},
                    {"r": rows, "n": columns, "s": checkpoint_bits, "up": math.ceil,
                     "per": lambda g: math.ceil(columns / g) / columns})


def read_methods(path=LIST):
    methods = []
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            spec, bits, *marks = (part.strip() for part in line.split("|"))
            methods.append(Method(spec, bits, marks[0].split() if marks else []))
    return methods
