"""Makes the report page that the docs show, its figures and its pictures.

    python benchmarks/report.py MODEL --harmful harmful_train.json harmful_val.json \\
        --harmless harmless_train.json harmless_val.json --out EDITED --pictures docs/images

The lists of each side are joined; `--optimize --max-kl 0.02 --n-train 64`; the result is evaluated against MODEL with replies
of 64 tokens and the LICENSE as text. An EDITED that is there already is evaluated and shown as it is. About 20 minutes on
one core for a model of 0.5B; the pictures need Chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from rich.console import Console

from abliterate import Options, load_prompts, run
from abliterate.cli.evaluate import evaluated
from abliterate.cli.run import result
from abliterate.commands.evaluate import evaluate
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.report.page import write_report
from abliterate.storage.atomic import write_text_whole

LICENSE = Path(__file__).parents[1] / "LICENSE"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WIDTH, HEIGHT, MARGIN = 1100, 1160, 24
PICTURES = {
    "report": ("light", None),
    "report-activations": ("dark", "#activations"),
    "report-selection": ("light", "#selection"),
}
"""Each picture's colours, and the section that it shows: the top of the page where it names none."""


def joined(files: list[Path], path: Path) -> str:
    """Write the prompts of several lists as one."""
    prompts = [prompt for file in files for prompt in load_prompts(str(file)).prompts]
    path.write_text(json.dumps(prompts), encoding="utf-8")
    return str(path)


def photograph(page: Path, folder: Path) -> None:
    """Take the pictures of the page in a headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for name, (scheme, section) in PICTURES.items():
            tab = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme).new_page()
            tab.goto(page.absolute().as_uri())
            tab.wait_for_timeout(2000)  # until every figure is drawn
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT}
            if section:
                box = tab.locator(section).bounding_box()
                clip |= {"y": box["y"] - MARGIN, "height": box["height"] + 2 * MARGIN}
            tab.screenshot(path=folder / f"{name}.png", clip=clip, full_page=True)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--harmful", type=Path, nargs="+", required=True)
    parser.add_argument("--harmless", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    sides = {
        side: joined(getattr(given, side), given.out.with_name(f"{side}.json")) for side in ("harmful", "harmless")
    }
    console = Console()
    if not given.out.is_dir():
        options = Options(given.model, given.out, optimize=True, max_kl=0.02, n_train=64, **sides)
        console.print(result(run(options)))
    wanted = EvaluateOptions(reply_tokens=64, text=LICENSE)
    one = evaluate(Options(str(given.out), Path(), **sides), wanted, given.model)
    console.print(evaluated(one))
    write_text_whole(given.out / "evaluation.json", json.dumps(one.to_json()))
    page = write_report(given.out)
    if given.pictures:
        photograph(page, given.pictures)


if __name__ == "__main__":
    main()
