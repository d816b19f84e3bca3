"""Data sets of R packages as pilots: the written study has the pilot's standard errors.

Their packages come with R, or from Debian (nlme, MASS, lattice, lme4, mlmRev). Where Rscript or a package is absent, the data
sets are skipped; with NESTLAB_R=required an absent Rscript fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nestlab as nl
from nestlab.show.from_fit import Pilot, read_pilot
from nestlab.show.pilot_check import ALLOWED, choose_plan
from nestlab.show.pilot_text import pilot_text

EXPORT = Path(__file__).parent / "pilots" / "export.R"
REAL = [
    ("nlme::Alfalfa", "Yield ~ Variety * Date + (1 | Block)"),
    ("nlme::Assay", "logDens ~ sample + dilut + (1 | Block)"),
    ("nlme::bdf", "langPOST ~ IQ.verb + sex + Minority + ses + denomina + (1 + IQ.verb | schoolNR)"),
    ("nlme::BodyWeight", "weight ~ Time * Diet + (1 + Time | Rat)"),
    ("nlme::Cefamandole", "log(conc) ~ Time + I(Time^2) + (1 | Subject)"),
    ("nlme::Dialyzer", "rate ~ QB + poly(pressure, 2) + (1 | Subject)"),
    ("nlme::Earthquake", "log(accel) ~ Richter + log(distance) + soil + (1 | Quake)"),
    ("nlme::ergoStool", "effort ~ Type + (1 | Subject)"),
    ("nlme::Fatigue", "relLength ~ cycles + I(cycles^2) + (1 | Path)"),
    ("nlme::Gasoline", "yield ~ endpoint + vapor + (1 | Sample)"),
    ("nlme::Glucose", "conc ~ Time + Meal + (1 | Subject)"),
    ("nlme::Gun", "rounds ~ Method * Physique + (1 | Team)"),
    ("nlme::Machines", "score ~ Machine + (1 | Worker)"),
    ("nlme::MathAchieve", "MathAch ~ SES + Minority + Sex + MEANSES + (1 + SES | School)"),
    ("nlme::Milk", "protein ~ Time + Diet + (1 | Cow)"),
    ("nlme::Oats", "yield ~ nitro + Variety + (1 | Block)"),
    ("nlme::Orthodont", "distance ~ age * Sex + (1 + age | Subject)"),
    ("nlme::Ovary", "follicles ~ sin(6.283185 * Time) + cos(6.283185 * Time) + (1 | Mare)"),
    ("nlme::Oxide", "Thickness ~ Source + (1 | Lot)"),
    ("nlme::PBG", "deltaBP ~ log(dose) * Treatment + (1 | Rabbit)"),
    ("nlme::Phenobarb", "conc ~ time + Wt + ApgarInd + (1 | Subject)"),
    ("nlme::Pixel", "pixel ~ day + I(day^2) + (1 | Dog)"),
    ("nlme::Quinidine", "conc ~ time + Age + Race + Smoke + (1 | Subject)"),
    ("nlme::RatPupWeight", "weight ~ sex + Lsize + Treatment + (1 | Litter)"),
    ("nlme::Soybean", "log(weight) ~ Time + I(Time^2) + Variety + Year + (1 | Plot)"),
    ("nlme::Spruce", "logSize ~ days + plot + (1 | Tree)"),
    ("nlme::Wafer", "current ~ voltage + I(voltage^2) + (1 | Wafer)"),
    ("nlme::Wheat", "DryMatter ~ Moisture * fertilizer + (1 | Tray)"),
    ("MASS::anorexia", "Postwt ~ Prewt + (1 | Treat)"),
    ("MASS::epil", "log(y + 1) ~ lbase * trt + lage + V4 + (1 | subject)"),
    ("MASS::nlschools", "lang ~ IQ + SES + COMB + GS + (1 + IQ | class)"),
    ("MASS::OME", "Correct ~ Loud + Noise + (1 | ID)"),
    ("MASS::coop", "Conc ~ Spc + (1 | Lab)"),
    ("MASS::Sitka", "size ~ Time * treat + (1 + Time | tree)"),
    ("MASS::quine", "Days ~ Sex + Age + (1 | Lrn)"),
    ("lme4::sleepstudy", "Reaction ~ Days + (1 + Days | Subject)"),
    ("lme4::sleepstudy", "Reaction ~ factor(Days) + (1 | Subject)"),
    ("lme4::cake", "angle ~ recipe * temperature + (1 | replicate)"),
    ("lme4::Penicillin", "diameter ~ sample + (1 | plate)"),
    ("lme4::Pastes", "strength ~ cask + (1 | batch)"),
    ("lme4::Arabidopsis", "log(total.fruits + 1) ~ nutrient * amd + rack + status + (1 | popu)"),
    ("lme4::cbpp", "incidence ~ period + size + (1 | herd)"),
    ("lme4::grouseticks", "log(TICKS + 1) ~ YEAR + HEIGHT + (1 | BROOD)"),
    ("lme4::VerbAgg", "Anger ~ btype + situ + mode + Gender + (1 | item)"),
    ("mlmRev::Exam", "normexam ~ standLRT + sex + schgend + schavg + (1 + standLRT | school)"),
    ("mlmRev::Hsb82", "mAch ~ meanses * cses + sector * cses + (1 + cses | school)"),
    ("mlmRev::Early", "cog ~ age * trt + (1 | id)"),
    ("mlmRev::egsingle", "math ~ year + grade + black + hispanic + female + (1 | schoolid)"),
    ("mlmRev::Gcsemv", "written ~ course + gender + (1 | school)"),
    ("mlmRev::ScotsSec", "attain ~ verbal + sex + social + (1 | second)"),
    ("mlmRev::Mmmec", "log(deaths + 1) ~ log(expected) + uvb + (1 | region)"),
    ("mlmRev::Oxboys", "height ~ poly(age, 2) + (1 + age | Subject)"),
    ("mlmRev::Contraception", "age ~ urban + livch + use + (1 | district)"),
    ("mlmRev::Socatt", "numpos ~ year + religion + gender + age + (1 | district)"),
    ("mlmRev::s3bbx", "chldcov ~ famcov + commcov + (1 | community)"),
    ("datasets::ChickWeight", "weight ~ Time * Diet + (1 + Time | Chick)"),
    ("datasets::CO2", "uptake ~ log(conc) + Type * Treatment + (1 | Plant)"),
    ("datasets::Orange", "circumference ~ age + (1 | Tree)"),
    ("datasets::Loblolly", "height ~ age + I(age^2) + (1 | Seed)"),
    ("datasets::Theoph", "conc ~ Time + Wt + Dose + (1 | Subject)"),
    ("datasets::DNase", "density ~ log(conc) + (1 | Run)"),
    ("datasets::infert", "age ~ parity + induced + spontaneous + (1 | education)"),
    ("datasets::attenu", "accel ~ mag + log(dist) + (1 | event)"),
    ("lattice::barley", "yield ~ variety + year + (1 | site)"),
    ("lattice::USRegionalMortality", "Rate ~ Status + Sex + (1 | Cause)"),
    ("boot::cane", "r ~ n + block + (1 | var)"),
]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data sets whose packages are installed."""
    if shutil.which("Rscript") is None:
        assert os.environ.get("NESTLAB_R") != "required", "no Rscript"
        pytest.skip("no Rscript")
    folder: Path = tmp_path_factory.mktemp("real")
    names = sorted({name for name, _ in REAL})
    subprocess.run(["Rscript", "--vanilla", str(EXPORT), *names], cwd=folder, check=True, capture_output=True)
    return folder


def designed(folder: Path, name: str, formula: str) -> tuple[Pilot, dict[str, float], dict[str, Any]]:
    """The pilot, the ratios of standard errors, and the tables of the study."""
    data = folder / f"{name.replace('::', '-')}.csv"
    if not data.exists():
        pytest.skip(f"{name.partition('::')[0]} is not installed")
    pilot = read_pilot(data, formula)
    made = partial(pilot_text, name="plan", file="plan.toml", seed=1, replications=200)
    plan, ratios = choose_plan(pilot, made, 0)
    return pilot, ratios, tomllib.loads(made(pilot, plan))


@pytest.mark.parametrize(("name", "formula"), REAL, ids=[f"{n}, {f}" for n, f in REAL])
def test_standard_errors_are_the_pilots(name: str, formula: str, exported: Path) -> None:
    pilot, ratios, _ = designed(exported, name, formula)
    assert ratios.keys() == pilot.fixed.keys()
    assert np.all(np.abs(np.log(list(ratios.values()))) < np.log1p(ALLOWED)), ratios


def test_a_data_set_of_statsmodels(tmp_path: Path) -> None:
    """11 firms in 20 years each, correlated predictors."""
    from statsmodels.datasets import grunfeld

    grunfeld.load_pandas().data.to_csv(tmp_path / "sm-grunfeld.csv", index=False)
    pilot, ratios, tables = designed(tmp_path, "sm::grunfeld", "invest ~ value + capital + year + (1 | firm)")
    assert len(pilot.sizes) == 11
    assert tables["predictors"]["year"]["distribution"] == "time"
    assert np.all(np.abs(np.log(list(ratios.values()))) < np.log1p(ALLOWED)), ratios


@pytest.mark.parametrize(
    "name",
    ["nlme::Orthodont", "nlme::Milk", "nlme::bdf", "lme4::cake", "mlmRev::Exam", "mlmRev::ScotsSec", "datasets::CO2"],
)
def test_the_models_standard_errors_are_the_pilots(name: str, exported: Path, tmp_path: Path) -> None:
    """Means over 200 fits, where the fit is not near the boundary."""
    pilot, _, tables = designed(exported, name, dict(REAL)[name])
    assert not pilot.singular
    summary = nl.Study.from_dict(tables).run(out=tmp_path / "o", jobs=1).summary()
    rows = summary.query("measure == 'modelse' and subset == 'all'").set_index("estimand")["value"]
    for term, estimate in pilot.fixed.items():
        assert abs(np.log(rows[term] / estimate.se)) < np.log1p(ALLOWED), term
