"""python -m bench.monitor [--quick] [--data ../shared/data] [--only PART ...] [--keep FOLDER]

Embeds public texts with the models that ship (once; they are kept), draws streams with and without
drift from them, and measures the monitor beside peers in environments of their own
(bench/monitor/peers.sh makes them); keeps each part's figures in a folder, and ends with one line
of JSON.
"""

from bench.compress.parts import Setting as Compressed
from bench.monitor.parts import PARTS, Setting
from bench.monitor.summary import summary
from bench.monitor.tables import CAVEATS, SECTIONS
from bench.report import finish, read_options, run_parts

PACKAGES = ("numpy", "onnxruntime", "tokenizers", "scikit-learn")


def main() -> None:
    """See the module."""
    options = read_options("monitor", PARTS, "build/bench")
    suffix = "quick" if options.quick else ""
    model, home = ((options.keep / name / suffix).resolve() for name in ("compress", "monitor"))
    compressed = Compressed(options.data, model, options.quick)
    setting = Setting(options.data, home, compressed, options.quick)
    found = run_parts(PARTS, options.only, setting, home)
    sections = [SECTIONS[name](found[name]) for name in found] + [CAVEATS]
    finish("monitor", sections, PACKAGES, summary(found))


if __name__ == "__main__":
    main()
