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
from ansible_collections.goldimage.osd.plugins.plugin_utils.windows.inf import Inf, TargetWindows, decode
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


def lines_of_all(inf):
    """Return the lines of all sections."""
    return [line for section in inf.section_names for line in lines_of(inf, section)]


def normal(line):
    """What the two write differently and mean alike, see docs/compared-with-wine.md.

    A line without a key has no field 0, one of a single field has it as field 0 too; empty fields at the end count as not there;
    Wine keeps the first of two carriage returns.
    """
    fields = [(field or "").rstrip("\r") for field in line]
    while len(fields) > 1 and not fields[-1]:
        fields.pop()
    return ["", fields[1]] if len(fields) == 2 and fields[0] == fields[1] else fields


#: How many the corpus has at least.
INFS = 44
#: Wine cuts a field off at so many characters; Windows takes 4096 (MAX_INF_STRING_LENGTH) [knowledge].
_WINE_FIELD = 511
_DIRECTORY = re.compile(r"%(-?\d+)%")


def alike(ours, theirs, directories):
    """Directory identifiers (%12%) stay as they are here; setupapi puts the folders of the computer that it runs on in their place."""
    mine = [_DIRECTORY.sub(lambda found: directories[found[1]], field) for field in ours]
    return theirs == [own[:_WINE_FIELD] for own in mine]


@pytest.mark.skipif(not (CORPORA / "inf").is_dir(), reason="no foreign INF files here")
def test_every_inf_reads_as_setupapi_reads_it(computer, agent, foreign_file):
    folder = agent.drive / "infs"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    files = {}
    for number, path in enumerate(sorted((CORPORA / "inf").rglob("*.[iI][nN][fF]"))):
        shutil.copy(foreign_file(path), folder / f"{number}.inf")
        files[rf"C:\infs\{number}.inf"] = (path.relative_to(CORPORA / "inf"), Inf(path.read_bytes()))
    identifiers = sorted({number for dummy, inf in files.values() for number in _DIRECTORY.findall(str(lines_of_all(inf)))})
    lines = "".join(f"%{number}%\r\n" for number in identifiers)
    (folder / "directories.inf").write_text('[Version]\r\nSignature="$Windows NT$"\r\n[Directories]\r\n' + lines)
    found = read(computer, agent, "inf", [r"C:\infs\directories.inf", *files])
    texts = [line[-1] for line in found[r"C:\infs\directories.inf"]["sections"]["Directories"]]
    directories = dict(zip(identifiers, texts, strict=True))
    differences = []
    compared = 0
    for name, (path, inf) in files.items():
        assert "error" not in found[name], (path, found[name])
        theirs_by_name = {section.lower(): lines for section, lines in found[name]["sections"].items()}
        assert sorted(inf.section_names) == sorted(theirs_by_name), path
        for section in inf.section_names:
            ours = [normal(line) for line in lines_of(inf, section)]
            theirs = [normal(line) for line in theirs_by_name[section]]
            compared += len(ours)
            pairs = [(mine, other) for mine, other in zip(ours, theirs, strict=False) if not alike(mine, other, directories)]
            if pairs or len(ours) != len(theirs):
                differences.append((str(path), section, len(ours), len(theirs), pairs[:3]))
    (agent.build / "inf-differences.json").write_text(json.dumps(differences, indent=1, ensure_ascii=False))
    assert len(files) >= INFS
    assert compared > 1000
    assert not differences, (len(differences), differences[:5])


TARGET = TargetWindows("amd64", (10, 0), 26100)


def wine_sections(inf):
    """Return the models sections that Wine takes.

    Of a manufacturer that names no decoration, or one for this architecture, whatever its version: the first of three names that is there.
    """
    found = []
    for entry in inf.entries("manufacturer"):
        base = entry.value(0)
        architectures = {decoration.split(".")[0].lower() for decoration in entry.values[1:]}
        if not architectures or architectures & {"nt", "ntamd64"}:
            found += [name for name in (f"{base}.NTamd64", f"{base}.NT", base) if name in inf][:1]
    return list(dict.fromkeys(found))


def models(inf, sections):
    """Return hardware ids with description of each model of these sections."""
    return [
        ([value.lower() for value in entry.values[1:] if value], entry.key.rstrip("\r"))
        for section in sections
        for entry in inf.entries(section)
        if len(entry.values) > 1
    ]


def picked(listed):
    """Return up to four hardware ids: the first, the last ones and some between."""
    first = list(dict.fromkeys(identifiers[0] for identifiers, dummy in listed if identifiers))
    return first[:: max(1, len(first) // 3)][:4]


def without_versions(content, sections):
    """Return an INF with the product's sections under the names that Wine knows, and what had these names under others."""
    text = decode(content)
    for section in sections:
        plain, dummy, decoration = re.split(r"(?i)\.(ntamd64)", section)
        if decoration:
            text = re.sub(rf"(?im)^\s*\[\s*{re.escape(plain)}\.ntamd64\s*\]", f"[{plain}.other]", text)
            text = re.sub(rf"(?im)^\s*\[\s*{re.escape(section)}\s*\]", f"[{plain}.NTamd64]", text)
    return text.encode("utf-16")


def listed_sections():
    """Return the document's rows: INF, the product's sections, Wine's."""
    text = (ROOT / "docs" / "compared-with-wine.md").read_text()
    part = text.partition("<!-- models -->")[2].partition("<!-- end -->")[0]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("| ")]
    return {(row[0], row[1], row[2]) for row in cells[2:]}


@pytest.mark.skipif(not (CORPORA / "inf").is_dir(), reason="no foreign INF files here")
def test_the_models_that_match_are_those_that_setupapi_lists(computer, agent, foreign_file):
    """Every INF twice: as it is, where Wine takes its own sections, and with the product's sections under names that Wine knows.

    So what a section's models are, and which of them match an id, is compared for every INF; the sections that Wine takes instead are
    those of its rule, and the document names every INF where they are others. Which model is the better one Wine does not say.
    """
    folder = agent.drive / "matched"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    wanted, expected, other_sections, with_models = {}, {}, set(), 0
    for number, path in enumerate(sorted((CORPORA / "inf").rglob("*.[iI][nN][fF]"))):
        content, title = foreign_file(path).read_bytes(), str(path.relative_to(CORPORA / "inf"))
        inf = Inf(content)
        sections = inf.models_sections(TARGET)
        ours, wines = models(inf, sections), models(inf, wine_sections(inf))
        assert len(ours) == len(inf.models(TARGET))
        with_models += bool(ours)
        if ours != wines:
            assert all(re.search(r"\.nt(amd64)?\.\d", section, re.IGNORECASE) for section in sections), title
            other_sections.add((title, ", ".join(sections), ", ".join(wine_sections(inf)) or "none"))
        for kind, written, listed in (("as it is", content, wines), ("renamed", without_versions(content, sections), ours)):
            name = f"{number}-{kind.replace(' ', '-')}.inf"
            (folder / name).write_bytes(written)
            wanted[rf"C:\matched\{name}"] = identifiers = list(dict.fromkeys([*picked(ours), *picked(wines)]))
            for identifier in identifiers:
                descriptions = sorted(text for identifiers_of, text in listed if identifier in identifiers_of)
                expected[rf"C:\matched\{name}", identifier] = title, kind, descriptions
    found = read(computer, agent, "match", wanted)
    differences = []
    for (name, identifier), (title, kind, descriptions) in expected.items():
        theirs = sorted(row[0].rstrip("\r") for row in found[name][identifier])
        if descriptions != theirs:
            differences.append((title, kind, identifier, descriptions, theirs))
    (agent.build / "match-differences.json").write_text(json.dumps(differences, indent=1, ensure_ascii=False))
    (agent.build / "match-sections.txt").write_text("".join(f"| {' | '.join(row)} |\n" for row in sorted(other_sections)))
    assert with_models > 20
    assert sum(bool(texts) for title, kind, texts in expected.values() if kind == "renamed") > 60
    assert not differences, (len(differences), len(expected), differences[:5])
    assert other_sections == listed_sections()


def test_the_answer_file_is_what_msxml_reads(computer, agent):
    """A file with all that the steps write into it."""
    file = answer_file.AnswerFile()
    locales = answer_file.Locales("0407:00000407", "de-DE", "de-DE", "en-US", "de-DE")
    answer_file.apply_windows_settings(
        file,
        answer_file.WindowsSettings(
            "amd64", "Größe & Co", 'Grüße & <Söhne> "GmbH"', "PC-1", "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE", "Romance Standard Time", locales
        ),
    )
    answer_file.set_administrator_password(file, "amd64", "pass & wörd")
    answer_file.add_local_account(file, "amd64", answer_file.LocalAccount("osd-run", "<secret>", ("Administrators",)))
    membership = answer_file.Membership("", "example.com", "OU=PC,DC=example,DC=com", "EXAMPLE", "join", "pl@in & <simple>")
    interface = answer_file.Interface(
        "52-54-00-12-34-56",
        False,
        ("192.0.2.10/24", "192.0.2.11/24"),
        (("192.0.2.1", 5),),
        ("192.0.2.2",),
        "example.com",
        netbios_options=2,
    )
    answer_file.apply_network_settings(
        file, answer_file.NetworkSettings("amd64", membership, (interface,), "example.com", ("a.example", "b.example"))
    )
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
    assert len(ours) > 40
