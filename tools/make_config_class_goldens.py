#!/usr/bin/env python3
"""Makes tests/golden/config_classes.json: of each architecture's config class in
transformers, every parameter with its default, what other names its keys have, and
what stands before the names of the body's weights. The list of what was looked
at.

  transformers 4.57.6

Usage: make_config_class_goldens.py
"""

import inspect
import json
import pathlib
import re

import transformers
from transformers import MODEL_MAPPING, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

ROOT = pathlib.Path(__file__).parent.parent


def parameters(function):
    """Those that have a default, by name."""
    return {name: parameter.default
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.default is not inspect.Parameter.empty}


def describe(model_type):
    config_class = CONFIG_MAPPING[model_type]
    own = parameters(config_class.__init__)
    # What the class leaves to its base.
    own.setdefault("tie_word_embeddings", config_class().tie_word_embeddings)
    return {"class": config_class.__name__, "parameters": own,
            "attribute_map": config_class.attribute_map,
            "prefix": MODEL_MAPPING[config_class].base_model_prefix + "."}


def main():
    listed = (ROOT / "model/architectures.def").read_text()
    names = re.findall(r"^ARCHITECTURE\(\w+, (\w+)\)", listed, re.MULTILINE)
    common = set(parameters(PretrainedConfig.__init__))
    common |= set(PretrainedConfig._get_global_generation_defaults())
    out = {"transformers": transformers.__version__, "common": sorted(common),
           "classes": {name: describe(name) for name in names}}
    path = ROOT / "tests/golden/config_classes.json"
    path.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
