#!/usr/bin/env python3
"""Keeps the tables of these pages what the results say.

    python3 docs/render_results.py                                  # rewrites the tables of docs/*.md
    python3 docs/render_results.py --check                          # fails where a page is not what the results give
    python3 docs/render_results.py --take DIR docs/results/NAME.json  # takes what tables need from a comparison's folder
    python3 docs/render_results.py --join DIR docs/results/NAME.json  # adds the arms of a later comparison under the same terms

A table stands between two lines, `<!-- table: docs/results/NAME.json KIND ARM,ARM -->` and `<!-- end -->`. KIND is `arms` (which
may be left out), `sites`, `stages`, `maps`, `settings` (of `compare --vary`) or `command`; ARM,ARM may be left out and keeps a table
to these arms. Nothing but Python's own library is needed.
"""

import argparse
import json
import re
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"(<!-- table: (\S+\.json)(?: (\w+)(?: (\S+))?)? -->\n).*?(<!-- end -->)", re.DOTALL)
FIRST = "first ensemble"
CONTROL = "random"
WIDE = 110


def rounded(value):
    """Results with six decimals, which is more than any of them has.

    >>> rounded({"mean": 0.1234567, "low": [-0.0000001, None], "n": 3, "arm": "uga"})
    {'mean': 0.123457, 'low': [0.0, None], 'n': 3, 'arm': 'uga'}
    """
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 6) + 0.0 if isinstance(value, float) else value


def plain_command(command):
    """A command line without the places of one machine: absolute paths by their last part, results in `compared`.

    >>> plain_command("consilium-simulate compare --data /data/monuseg --budget 5,10 --out /x/y --seeds 1")
    'consilium-simulate compare --data monuseg --budget 5,10 --out compared --seeds 1'
    >>> plain_command("/x/consilium-simulate compare --data=/data/monuseg")
    'consilium-simulate compare --data=monuseg'
    """
    plain = lambda text: Path(text).name if text.startswith("/") else text
    words = ["=".join(map(plain, word.split("=", 1))) for word in shlex.split(command)]
    for place, word in enumerate(words):
        if word.startswith("--out="):
            words[place] = "--out=compared"
        elif word == "--out" and place + 1 < len(words):
            words[place + 1] = "compared"
    return shlex.join(words)


def taken(folder):
    """A comparison's summary, and what it is of."""
    read = lambda name: json.loads((folder / name).read_text(encoding="utf-8"))
    summary, terms, request = read("summary.json"), read("terms.json"), read("request.json")
    missing = [name for name in request["cells"] if not (folder / "cells" / f"{name}.json").is_file()]
    if missing:
        sys.exit(f"{folder} is not finished: {len(missing)} of {len(request['cells'])} cells are missing, {missing[0]} for one")
    return {
        "command": plain_command(request["command"]),
        "version": terms["version"],
        "computed_by": terms["computed_by"],
        "members": terms["plan"]["members"],
        "rounds": terms["rounds"],
    } | rounded(summary)


RULES = re.compile(r"(?<=--acquisition[ =])\S+")


def joined(results, more):
    """Results with the arms of a later comparison. What both have must be the same to the last digit: the command but for its rules
    (options in any order, files in any place), the first ensemble, its maps and boxes, and the controls. The arms that only one of
    them has keep the differences they had, from `random` and UGA always, from an arm of the other never. What an arm gains over
    itself with fewer patches or under the plan is taken from either, for older summaries do not have it.

    >>> row = lambda arm, dice, **differences: {"arm": arm, "budget": 5, "dice": dice, "differences": differences}
    >>> one = {"command": "x --acquisition bald --budget 5", "seeds": 1, "arms": [], "rows": [row("uga", 0.5), row("bald", 0.25, uga=-0.25)]}
    >>> two = {"command": "x --acquisition kl --budget 5", "seeds": 1, "arms": [], "rows": [row("uga", 0.5), row("kl", 0.75, uga=0.25)]}
    >>> found = joined(one, two)
    >>> found["command"], [row["arm"] for row in found["rows"]]
    ('x --acquisition bald,kl --budget 5', ['uga', 'bald', 'kl'])
    >>> joined(one, two | {"rows": [row("uga", 0.75)]})
    Traceback (most recent call last):
    ValueError: the two comparisons differ in "dice" of uga 5
    >>> joined(one, two | {"seeds": 2})
    Traceback (most recent call last):
    ValueError: the two comparisons differ in "seeds"
    >>> joined(one, two | {"command": "x --acquisition kl --budget 5 --vary fine_tuning.iterations=9"})
    Traceback (most recent call last):
    ValueError: the two comparisons differ in "command" beyond one --acquisition
    """
    whole = dict(results)
    for key in sorted(results.keys() | more.keys()):
        if key in ("arms", "rows"):
            whole[key] = joined_entries(results[key], more[key])
        elif key == "command":
            (first, one), (later, other) = (RULES.subn("", of[key]) for of in (results, more))
            words = lambda command: sorted(Path(word).name for word in shlex.split(command))
            if words(first) != words(later) or not one == other == 1:
                raise ValueError('the two comparisons differ in "command" beyond one --acquisition')
            named = [rule for of in (results, more) for rule in RULES.search(of[key])[0].split(",")]
            whole[key] = RULES.sub(",".join(dict.fromkeys(named)), results[key])
        elif results.get(key) != more.get(key):
            raise ValueError(f'the two comparisons differ in "{key}"')
    return whole


def joined_entries(entries, more):
    """Entries by arm, and budget if they have one, and those that only `more` has."""
    name = lambda entry: f"{entry['arm']} {entry.get('budget', '')}".strip()
    found = {name(entry): entry for entry in entries}
    for entry in more:
        known = found.setdefault(name(entry), entry)
        for key in sorted(known.keys() | entry.keys()):
            if key == "differences":
                both = known[key].keys() & entry[key].keys()
                same = all(known[key][arm] == entry[key][arm] for arm in both)
            elif key in ("more_patches", "unvaried"):
                same = key not in known or key not in entry or known[key] == entry[key]
            else:
                same = known.get(key) == entry.get(key)
            if not same:
                raise ValueError(f'the two comparisons differ in "{key}" of {name(entry)}')
        found[name(entry)] = entry | known | {"differences": known["differences"] | entry["differences"]}
    return list(found.values())


def compact(results):
    """JSON with a line an entry: small, and a change shows where it is.

    >>> print(compact({"seeds": 1, "rows": [{"arm": "a"}, {"arm": "b"}]}), end="")
    {
     "seeds": 1,
     "rows": [
      {"arm": "a"},
      {"arm": "b"}
     ]
    }
    """
    entries = []
    for key, value in results.items():
        if isinstance(value, list):
            inner = ",\n".join("  " + json.dumps(entry) for entry in value)
            entries.append(f' "{key}": [\n{inner}\n ]')
        else:
            entries.append(f' "{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(entries) + "\n}\n"


def figure(value, digits=3, sign=False):
    """A figure in text; a difference has its sign, and what is rounded to 0 has none.

    >>> figure(0.75090), figure(0.0012, sign=True), figure(-0.0004, sign=True), figure(-0.0051, sign=True)
    ('0.751', '+0.001', '0.000', '-0.005')
    """
    if value is None:
        return ""
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text[1:] if sign and float(text) == 0 else text


def interval(value, digits=3, sign=False):
    """A mean with its interval.

    >>> interval({"mean": 0.75, "low": 0.7, "high": 0.8}), interval(None)
    ('0.750 (0.700 to 0.800)', '')
    >>> interval({"mean": -0.0041, "low": -0.0061, "high": 0.0}, sign=True)
    '-0.004 (-0.006 to 0.000)'
    """
    if value is None:
        return ""
    mean, low, high = (figure(value[part], digits, sign) for part in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def less_control(rows, arm):
    """The paired difference of an arm from the control; of the first ensemble it is the control's own, turned round.

    >>> found = {"first ensemble": [{"mean": 0.25, "low": 0.125, "high": 0.5}, 24]}
    >>> less_control([{"arm": "random", "budget": 5, "differences": found}], "first ensemble")
    {'mean': -0.25, 'low': -0.5, 'high': -0.125}
    """
    differences = {row["arm"]: row["differences"] for row in rows if row["budget"]}
    if arm == FIRST:
        of, _ = differences.get(CONTROL, {}).get(FIRST, (None, 0))
        return of and {"mean": -of["mean"], "low": -of["high"], "high": -of["low"]}
    return differences.get(arm, {}).get(CONTROL, (None, 0))[0]


def lines(headings, rows):
    """A table of Markdown.

    >>> print(lines(["a", "b"], [["1", ""]]), end="")
    <BLANKLINE>
    | a | b |
    |---|---|
    | 1 | |
    <BLANKLINE>
    """
    line = lambda cells: re.sub(r"\|  (?=\|)", "| ", "| " + " | ".join(cells) + " |") + "\n"
    return "\n" + line(headings) + "|" + "---|" * len(headings) + "\n" + "".join(map(line, rows)) + "\n"


def arms_table(results):
    """Arms by Dice at the largest budget, the best first."""
    budgets = sorted({row["budget"] for row in results["rows"]} - {0})
    dice = {(row["arm"], row["budget"]): row["dice"] for row in results["rows"]}
    last = [row for row in results["rows"] if row["budget"] in (0, budgets[-1])]
    last.sort(key=lambda row: -row["dice"]["mean"] if row["dice"] else 1.0)
    areas = {of["arm"]: of["area"] and of["area"]["mean"] for of in results["arms"]} if len(budgets) > 1 else {}
    headings = ["arm"] + [f"Dice, {budget} patches a site (95 %)" for budget in budgets]
    headings += ["area over budgets"] if areas else []
    headings += [f"{budgets[-1]} patches: minus {CONTROL}, field by field (95 %)", "labelled at a site, mm²", "of it foreground"]
    rows = []
    for row in last:
        arm = row["arm"]
        of_budget = lambda budget: dice.get((arm, 0 if arm == FIRST and budget == budgets[-1] else budget))
        cells = [arm] + [interval(of_budget(budget)) for budget in budgets]
        cells += [figure(areas.get(arm))] if areas else []
        cells.append(interval(less_control(last, arm), sign=True))
        rows.append(cells + [figure(row["area_mm2"]), figure(row["foreground_mm2"], 4)])
    return lines(headings, rows)


def sites_table(results):
    """Arms by site and budget, and what an arm gains over itself with the next smaller budget, field by field.

    >>> of = lambda mean: {"mean": mean, "low": mean, "high": mean}
    >>> rows = [{"arm": FIRST, "budget": 0, "by_site": {"a": of(0.25)}, "central": None},
    ...     {"arm": "uga", "budget": 5, "by_site": {"a": of(0.5)}, "central": of(0.75), "more_patches": [of(0.125), 8]}]
    >>> print(sites_table({"rows": rows}), end="")
    <BLANKLINE>
    | arm | patches | a (95 %) | central site | minus fewer patches (95 %) |
    |---|---|---|---|---|
    | first ensemble | 0 | 0.250 (0.250 to 0.250) | | |
    | uga | 5 | 0.500 (0.500 to 0.500) | 0.750 | +0.125 (+0.125 to +0.125) |
    <BLANKLINE>
    """
    sites = sorted(results["rows"][0]["by_site"])
    rows = []
    for row in results["rows"]:
        cells = [row["arm"], str(row["budget"])] + [interval(row["by_site"].get(site)) for site in sites]
        central, (more, _) = row["central"], row.get("more_patches", (None, 0))
        rows.append(cells + [figure(central and central["mean"]), interval(more, sign=True)])
    return lines(["arm", "patches"] + [f"{site} (95 %)" for site in sites] + ["central site", "minus fewer patches (95 %)"], rows)


def stages_table(results):
    """Arms by stage of disease at the largest budget, in the order of the comparison; of a stage without foreground in truth
    the share of its tissue that is called foreground.

    >>> wrong, dice = {"mean": 0.01, "low": 0, "high": 0.02}, {"mean": 0.25, "low": 0.25, "high": 0.25}
    >>> stage = lambda name, dice, wrong: {"stage": name, "dice": dice, "false_positive": wrong}
    >>> rows = [{"arm": "uga", "budget": 5, "stages": [stage("negative", None, wrong), stage("micro", dice, None)]}]
    >>> print(stages_table({"rows": rows}), end="")
    <BLANKLINE>
    | arm | negative, wrongly called (95 %) | micro, Dice (95 %) |
    |---|---|---|
    | uga | 1.0 % (0.0 to 2.0) | 0.250 (0.250 to 0.250) |
    <BLANKLINE>
    """
    last = max(row["budget"] for row in results["rows"])
    rows = [row for row in results["rows"] if row["budget"] in (0, last)]
    percent = lambda value: interval({key: 100 * part for key, part in value.items()}, 1).replace(" ", " % ", 1) if value else ""
    cell = lambda of: interval(of["dice"]) if of["dice"] else percent(of["false_positive"])
    heading = lambda of: of["stage"] + (", Dice (95 %)" if of["dice"] else ", wrongly called (95 %)")
    return lines(["arm"] + [heading(of) for of in rows[0]["stages"]], [[row["arm"]] + [cell(of) for of in row["stages"]] for row in rows])


def settings_table(results):
    """Rules under the plan and with one setting of it otherwise, at the largest budget, and what the setting brings.

    >>> of = lambda mean: {"mean": mean, "low": mean, "high": mean}
    >>> row = lambda arm, budget, mean: {"arm": arm, "budget": budget, "dice": of(mean), "central": of(0.5)}
    >>> rows = [row(FIRST, 0, 0.125), row("uga", 5, 0.25), row("bald", 5, 0.25), row("uga hed=0.1", 5, 0.5) | {"unvaried": [of(0.25), 8]}]
    >>> print(settings_table({"rows": rows}), end="")
    <BLANKLINE>
    | rule | setting | Dice (95 %) | minus the rule under the plan, field by field (95 %) | central site |
    |---|---|---|---|---|
    | first ensemble | | 0.125 (0.125 to 0.125) | | 0.500 |
    | uga | the plan's own | 0.250 (0.250 to 0.250) | | 0.500 |
    | uga | `hed` 0.1 | 0.500 (0.500 to 0.500) | +0.250 (+0.250 to +0.250) | 0.500 |
    <BLANKLINE>
    """
    last = max(row["budget"] for row in results["rows"])
    rows = [row for row in results["rows"] if row["budget"] in (0, last)]
    split = lambda row: (row["arm"], "") if row["arm"] == FIRST else row["arm"].partition(" ")[::2]
    varied = [rule for rule, setting in map(split, rows) if setting]
    wanted = [FIRST] + [rule for rule in dict.fromkeys(rule for rule, _ in map(split, rows)) if rule in varied]
    cells = []
    for row in sorted((row for row in rows if split(row)[0] in wanted), key=lambda row: wanted.index(split(row)[0])):
        rule, setting = split(row)
        key, _, value = setting.partition("=")
        told = f"`{key}` {value}" if setting else "" if rule == FIRST else "the plan's own"
        unvaried, central = row.get("unvaried", (None, 0))[0], row["central"]
        cells.append([rule, told, interval(row["dice"]), interval(unvaried, sign=True), figure(central and central["mean"])])
    headings = ["rule", "setting", "Dice (95 %)", "minus the rule under the plan, field by field (95 %)", "central site"]
    return lines(headings, cells)


def maps_table(results):
    """Uncertainties by how well they find errors, the best first."""
    maps = sorted(results["maps"], key=lambda of: -of["error_auroc"]["mean"] if of["error_auroc"] else 1.0)
    rows = [[of["map"], interval(of["error_auroc"]), interval(of["aurc"], 4)] for of in maps]
    return lines(["uncertainty", "error-AUROC (95 %)", "AURC (95 %), lower is better"], rows)


def command_block(results):
    r"""The command line, broken before options.

    >>> print(command_block({"command": "x compare --data " + "d" * 60 + " --budget 5 --acquisition " + "a" * 40}), end="")
    <BLANKLINE>
        x compare --data dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd --budget 5 \
            --acquisition aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    <BLANKLINE>
    """
    out = [""]
    for part in re.split(r" (?=--)", results["command"]):
        if out[-1] and len(out[-1]) + len(part) > WIDE - 12:
            out.append("")
        out[-1] += (" " if out[-1] else "") + part
    return "\n    " + " \\\n        ".join(out) + "\n\n"


KINDS = {
    "arms": arms_table, "sites": sites_table, "stages": stages_table, "settings": settings_table, "maps": maps_table,
    "command": command_block,
}


def rendered(page, load):
    r"""A page with its tables as the results give them.

    >>> text = "a\n<!-- table: r.json command -->\nold\n<!-- end -->\nb\n"
    >>> rendered(text, lambda name: {"command": "x --seeds 1"})
    'a\n<!-- table: r.json command -->\n\n    x --seeds 1\n\n<!-- end -->\nb\n'

    A table without an end is an error, and so is an end without a table.

    >>> rendered("<!-- table: r.json -->\n", load)
    Traceback (most recent call last):
    ValueError: 0 tables, but 1 times <!-- table:
    """
    def table(found):
        start, name, kind, arms, end = found.groups()
        results = load(name)
        if arms:
            results = results | {"rows": [row for row in results["rows"] if row["arm"] in [FIRST] + arms.split(",")]}
        return start + KINDS[kind or "arms"](results) + end

    found = len(TABLE.findall(page))
    for mark in ("<!-- table:", "<!-- end -->"):
        if page.count(mark) != found:
            raise ValueError(f"{found} tables, but {page.count(mark)} times {mark}")
    return TABLE.sub(table, page)


def load(name):
    return json.loads((ROOT / name).read_text(encoding="utf-8"))


def main():
    parser = argparse.ArgumentParser(description="Keeps the tables of docs/*.md what docs/results/*.json say.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="change nothing; fail where a page would change")
    what.add_argument("--take", nargs=2, metavar=("DIR", "FILE"), type=Path, help="take results from a comparison's folder")
    what.add_argument("--join", nargs=2, metavar=("DIR", "FILE"), type=Path, help="add a later comparison's arms to what was taken")
    options = parser.parse_args()
    if options.take or options.join:
        folder, file = options.take or options.join
        results = taken(folder)
        if options.join:
            try:
                results = joined(json.loads(file.read_text(encoding="utf-8")), results)
            except ValueError as why:
                sys.exit(f"{file} is left as it was: {why}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(compact(results), encoding="utf-8")
        return 0
    stale = 0
    for path in sorted((ROOT / "docs").glob("*.md")):
        page = path.read_text(encoding="utf-8")
        wanted = rendered(page, load)
        if wanted != page and options.check:
            print(f"{path.relative_to(ROOT)}: tables are not what the results give; run python3 docs/render_results.py")
            stale = 1
        elif wanted != page:
            path.write_text(wanted, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main())
