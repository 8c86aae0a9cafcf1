# Copyright: goldimage.osd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the product reads or writes, read by someone else: INF files by Wine's setupapi, the answer file by MSXML."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows import answer_file
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.computer import Job
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.inf import Inf, TargetWindows
from wine_agent import PYTHON, finish

ROOT = Path(__file__).parents[2]
CORPORA = (ROOT / os.environ.get("CORPORA", "../shared/corpora")).resolve()


def read(computer, agent, what, request):
    """Run the reader as a job and return what it found."""
    shutil.copy(Path(__file__).with_name("outside_readers.py"), agent.drive / "outside_readers.py")
    (agent.drive / f"{what}-in.json").write_text(json.dumps(request), encoding="utf-8")
    argv = [PYTHON, "-I", r"C:\outside_readers.py", what, rf"C:\{what}-in.json", rf"C:\{what}-out.json"]
    computer.start_job(Job(id=f"reader-{what}", argv=argv))
    code, output = finish(computer, f"reader-{what}", limit=120)
    assert code == 0, output.decode(errors="replace")
    return json.loads((agent.drive / f"{what}-out.json").read_text(encoding="utf-8"))


def lines_of(inf, section):
    """Return a section as setupapi gives it: the key, then the fields."""
    return [[entry.key, *entry.values] for entry in inf.entries(section)]


def normal(line):
    """What the two write differently and mean alike, see docs/compared-with-wine.md.

    A line without a key has no field 0, one of a single field has it as field 0 too; empty fields at the end count as not there;
    Wine keeps the first of two carriage returns.
    """
    fields = [(field or "").rstrip("\r") for field in line]
    while len(fields) > 1 and not fields[-1]:
        fields.pop()
    return ["", fields[1]] if len(fields) == 2 and fields[0] == fields[1] else fields


#: Wine cuts a field off at so many characters; Windows takes 4096 (MAX_INF_STRING_LENGTH) [knowledge].
_WINE_FIELD = 511
_DIRECTORY = re.compile(r"%-?\d+%")


def alike(ours, theirs):
    """Directory identifiers (%12%) stay as they are here; setupapi puts the folders of the computer that it runs on in their place."""
    if len(ours) != len(theirs):
        return False
    for own, other in zip(ours, theirs, strict=True):
        mine = own
        if len(other) == _WINE_FIELD:
            mine = mine[:_WINE_FIELD]
        pattern = ".*".join(re.escape(part) for part in _DIRECTORY.split(mine))
        if not re.fullmatch(pattern, other, re.DOTALL):
            return False
    return True


@pytest.mark.skipif(not (CORPORA / "inf").is_dir(), reason="no foreign INF files here")
def test_every_inf_reads_as_setupapi_reads_it(computer, agent):
    folder = agent.drive / "infs"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    files = {}
    for number, path in enumerate(sorted((CORPORA / "inf").rglob("*.[iI][nN][fF]"))):
        shutil.copy(path, folder / f"{number}.inf")
        files[rf"C:\infs\{number}.inf"] = (path.relative_to(CORPORA / "inf"), Inf(path.read_bytes()))
    found = read(computer, agent, "inf", {name: list(inf.section_names) for name, (dummy, inf) in files.items()})
    differences = []
    compared = 0
    for name, (path, inf) in files.items():
        assert "error" not in found[name], (path, found[name])
        for section in inf.section_names:
            ours = [normal(line) for line in lines_of(inf, section)]
            theirs = [normal(line) for line in found[name]["sections"][section]]
            compared += len(ours)
            pairs = [(mine, other) for mine, other in zip(ours, theirs, strict=False) if not alike(mine, other)]
            if pairs or len(ours) != len(theirs):
                differences.append((str(path), section, len(ours), len(theirs), pairs[:3]))
    (agent.build / "inf-differences.json").write_text(json.dumps(differences, indent=1, ensure_ascii=False))
    assert len(files) >= 40
    assert compared > 1000
    assert not differences, (len(differences), differences[:5])


@pytest.mark.skipif(not (CORPORA / "inf").is_dir(), reason="no foreign INF files here")
def test_the_models_that_match_are_those_that_setupapi_lists(computer, agent):
    """Up to four hardware ids of each INF. Which is the better one setupapi under Wine does not say."""
    target = TargetWindows("amd64", (10, 0), 18362)
    folder = agent.drive / "matched"
    folder.mkdir(exist_ok=True)
    wanted, expected = {}, {}
    for number, path in enumerate(sorted((CORPORA / "inf").rglob("*.[iI][nN][fF]"))):
        inf = Inf(path.read_bytes())
        models = inf.models(target)
        identifiers = list(dict.fromkeys(model.hardware_id for model in models if model.hardware_id))
        picked = identifiers[:: max(1, len(identifiers) // 3)][:4]
        # Wine knows no version in a section's decoration (NTamd64.10.0): it takes the one without, or none.
        plain = all(re.fullmatch(r".*\.nt(amd64)?", section, re.IGNORECASE) for section in inf.models_sections(target))
        if not picked or not plain:
            continue
        shutil.copy(path, folder / f"{number}.inf")
        name = rf"C:\matched\{number}.inf"
        wanted[name] = picked
        for identifier in picked:
            same = [m for m in models if identifier.lower() in [i.lower() for i in (m.hardware_id, *m.compatible_ids)]]
            expected[name, identifier] = (str(path.relative_to(CORPORA / "inf")), sorted(m.description.rstrip("\r") for m in same))
    found = read(computer, agent, "match", wanted)
    differences = []
    for (name, identifier), (path, ours) in expected.items():
        theirs = sorted(row[0].rstrip("\r") for row in found[name][identifier])
        if ours != theirs:
            differences.append((path, identifier, ours, theirs))
    (agent.build / "match-differences.json").write_text(json.dumps(differences, indent=1, ensure_ascii=False))
    assert len(expected) > 20
    assert not differences, (len(differences), len(expected), differences[:5])


def test_the_answer_file_is_what_msxml_reads(computer, agent):
    file = answer_file.AnswerFile()
    shell = file.component("specialize", "Microsoft-Windows-Shell-Setup", "amd64")
    for name, text in (("ComputerName", "PC-1"), ("RegisteredOrganization", 'Grüße & <Söhne> "GmbH"')):
        ElementTree.SubElement(shell, answer_file._tag(name)).text = text
    answer_file.add_run_synchronous(file, "amd64", 'cmd /c echo "a & b" > c:\\x', "First & only")
    (agent.drive / "unattend.xml").write_bytes(file.render())
    found = read(computer, agent, "xml", r"C:\unattend.xml")
    texts = {path.rpartition("/")[2]: text for path, text in found["elements"]}
    assert texts["RegisteredOrganization"] == 'Grüße & <Söhne> "GmbH"'
    assert 'cmd /c echo "a & b" > c:\\x' in texts.values()
    ours = []

    def walk(element, names):
        here = [*names, element.tag.rpartition("}")[2]]
        for kid in element:
            walk(kid, here)
        if not len(element):
            ours.append(["/".join(here), element.text or ""])

    walk(ElementTree.fromstring(file.render()), [])
    assert found["elements"] == ours
