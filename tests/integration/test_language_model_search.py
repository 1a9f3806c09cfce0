"""A search with the scores of a language model, from the command line to an experiment that predicts with them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

import search
from datasets.common.errors import UserError
from models.backbones.language_model import MaskedLanguageModel
from models.backbones.names import BACKBONES
from search.request.search_request import SearchRequest
from search.request.user_data import score_columns
from search.storage.attributes import MANIFEST
from search.study.config import study_config
from tests.helpers.answers import Answer, run_here
from tests.helpers.checkpoints import TINY, make_checkpoint, write_checkpoint, write_folder
from tests.helpers.tables import WILD_TYPE, variants, write

BACKBONE = "esm2_tiny"
TABLE = ("--data", "assay.csv", "--wild-type", "wild.fasta", "--split", "random", "--model", "ridge")
WORDS = (*TABLE, "--n-trials", "2", "trainer.threads=1")
SCORES = ("--zero-shot", BACKBONE, "--weights-dir", "weights")
EXPERIMENT = "studies/experiment/assay-fitness-random-ridge.yaml"
SEEN = "studies/experiment/seen.yaml"
"""Of a model that sees both columns."""
NAMES = ["esm_masked_marginal", "esm_wild_type_marginal"]


@pytest.fixture(scope="module", autouse=True)
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tiny backbones, and no weights but those that a test writes."""
    with pytest.MonkeyPatch.context() as patch:
        for name, shape in TINY.items():
            patch.setitem(BACKBONES, name, shape)
        home = tmp_path_factory.mktemp("home")
        for variable in ("TORCH_HOME", "XDG_CACHE_HOME", "HF_HOME"):
            patch.setenv(variable, str(home / variable))
        yield


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language-model")
    write(folder / "assay.csv", "sequence,fitness", [(text, f"{value:.4f}") for _, text, value in variants()])
    (folder / "wild.fasta").write_text(f">wild\n{WILD_TYPE}\n")
    write_checkpoint(folder / "weights", BACKBONE)
    answer = run_here(*WORDS, *SCORES, cwd=folder)
    assert answer.status == 0, answer
    assert "4 passes of the wild type through esm2_tiny, for esm_masked_marginal." in answer.err
    words = ("--study-name", "seen", "scores.use=all", "--n-trials", "1")
    again = run_here(*WORDS, *SCORES, *words, cwd=folder)
    assert again.status == 0
    assert "wild type through" not in again.err, "the scores are kept"
    return folder


def predicted(folder: Path, *words: str, weights: str = "weights") -> Answer:
    call = ("predict", SEEN, "--no-distance", "--output", "out.csv", "--weights-dir", weights)
    return run_here(*call, *words, cwd=folder)


@pytest.mark.slow
def test_which_columns_are_seen_is_searched_and_what_they_are_made_of_is_recorded(searched: Path) -> None:
    about = search.open_study("assay-fitness-random-ridge", runs_dir=searched / "runs").user_attrs[MANIFEST]
    assert about["space"]["scores.use"]["choices"] == ["none", *NAMES, "all"]
    digest = MaskedLanguageModel(BACKBONE, searched / "weights" / f"{BACKBONE}.pt").hash
    source = {"kind": "language_model", "hash": digest, "columns": NAMES, "backbone": BACKBONE}
    assert about["scores"]["sources"] == [source]
    config = yaml.safe_load((searched / EXPERIMENT).read_text())
    assert config["scores"]["sources"] == [source | {"file": None}]
    assert config["provenance"]["schema_version"] == 6


def test_it_is_verified_bit_for_bit_where_nothing_is_cached(searched: Path) -> None:
    for words in ((), ("--runs-dir", "elsewhere")):
        answer = run_here("verify", SEEN, "--weights-dir", "weights", *words, cwd=searched)
        assert answer.status == 0, answer
        assert "equal bit for bit" in answer.out


def test_other_weights_are_refused(searched: Path, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "other", BACKBONE, seed=1)
    other = str(tmp_path / "other")
    says = "The weights of esm2_tiny (esm_masked_marginal, esm_wild_type_marginal) have changed"
    assert says in run_here("verify", SEEN, "--weights-dir", other, cwd=searched).refusal()
    write(searched / "some.csv", "sequence", [(text,) for _, text, _ in variants()[:5]])
    answer = predicted(searched, "--input", "some.csv", weights=other)
    assert "The weights of esm2_tiny (esm_masked_marginal" in answer.refusal()
    shutil.copytree(searched, tmp_path / "copy")
    words = ("--zero-shot", BACKBONE, "--weights-dir", other, "--quiet")
    assert "scores.sources" in run_here(*WORDS, *words, cwd=tmp_path / "copy").refusal()


def test_candidates_get_their_scores_and_need_the_weights(searched: Path) -> None:
    answer = predicted(searched, "--mutagenesis", "sites:1,10,13", "--top", "20")
    assert answer.status == 0, answer
    assert f"1 pass of the wild type through {BACKBONE}, for esm_masked_marginal." in answer.err, "two are known"
    answer = predicted(searched, "--mutagenesis", "sites:1,10,13", "--top", "20")
    assert "wild type through" not in answer.err, "what prediction computed is kept too"
    (searched / "empty").mkdir(exist_ok=True)
    refusal = predicted(searched, "--mutagenesis", "singles", "--quiet", weights="empty").refusal()
    assert f"{BACKBONE}.pt was looked for in {searched / 'empty'} and" in refusal
    assert "--weights-dir" in refusal


def test_from_python_predictions_are_those_of_the_command(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(searched)
    texts = [text for _, text, _ in variants()[:7]]
    write(searched / "seven.csv", "sequence", [(text,) for text in texts])
    assert predicted(searched, "--input", "seven.csv").status == 0
    trained = search.load_experiment(SEEN, weights_dir="weights")
    lines = (searched / "out.csv").read_text().splitlines()
    column = lines[0].split(",").index("prediction")
    beside = np.array([float(line.split(",")[column]) for line in lines[1:]])
    np.testing.assert_allclose(trained.predict(texts), beside, rtol=1e-5)
    with pytest.raises(UserError, match="was looked for in"):
        search.load_experiment(SEEN, weights_dir=searched).predict(texts)


def test_a_request_from_python_is_the_commands(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(searched)
    request = SearchRequest(
        data=Path("assay.csv"),
        wild_type=Path("wild.fasta"),
        split="random",
        model="ridge",
        n_trials=2,
        overrides=("trainer.threads=1",),
        zero_shot=BACKBONE,
        weights_dir="weights",  # type: ignore[arg-type]
        quiet=True,
    )
    assert search.run_study(request).n_finished == 2
    with pytest.raises(UserError, match="is no language model"):
        SearchRequest(task="gb1_three_vs_rest", model="ridge", zero_shot="esm3")


def test_data_check_and_train_know_them(searched: Path) -> None:
    words = ("--wild-type", "wild.fasta", "--split", "random", *SCORES)
    answer = run_here("data", "check", "assay.csv", *words, cwd=searched)
    assert answer.status == 0, answer
    assert "esm_masked_marginal     1,080 of 1,080 variants have it; Spearman" in answer.out
    assert f"--zero-shot {BACKBONE} --weights-dir weights" in answer.out
    assert run_here("train", *TABLE, "trainer.threads=1", *SCORES, cwd=searched).status == 0


@pytest.mark.slow
def test_the_ladder_shows_them_alone(searched: Path) -> None:
    answer = run_here(*WORDS, "--model", "forest", "--n-trials", "1", *SCORES, "--study-name", "both", cwd=searched)
    assert answer.status == 0, answer
    for name in NAMES:
        assert name in answer.out


def test_a_folder_of_hugging_face_does_as_well(searched: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "hub" / BACKBONE, BACKBONE)
    words = (
        "--zero-shot",
        BACKBONE,
        "--weights-dir",
        str(tmp_path / "hub"),
        "--study-name",
        "folder",
        "--n-trials",
        "1",
    )
    assert run_here(*WORDS, *words, "scores.use=all", cwd=searched).status == 0
    before, after = (
        yaml.safe_load((searched / f"studies/experiment/{name}.yaml").read_text()) for name in ("seen", "folder")
    )
    assert after["provenance"]["value"] == pytest.approx(before["provenance"]["value"], abs=1e-3)


@pytest.mark.slow
def test_the_word_stands_for_the_backbone_of_the_config(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def models(weights_dir: Path | None, announce: object) -> object:
        def find(name: str) -> MaskedLanguageModel:
            asked.append(name)
            return MaskedLanguageModel(BACKBONE, searched / "weights" / f"{BACKBONE}.pt")

        return find

    monkeypatch.setattr("search.request.user_data.language_models", models)
    options = SearchRequest(task="gb1_three_vs_rest", model="ridge", zero_shot="esm")
    other = "esm1v_t33_650M_UR90S_1"
    for words in (
        ["task=gb1_three_vs_rest", "model=ridge"],
        ["task=gb1_three_vs_rest", "model=esm"],
        ["task=gb1_three_vs_rest", "model=esm", f"model.backbone={other}"],
        ["task=gb1_three_vs_rest", "model=esm", f"++model.backbone='{other}'"],
    ):
        assert score_columns(options, study_config(words).find_task(), print, words) is not None
    assert asked == ["esm2_t6_8M_UR50D", "esm2_t6_8M_UR50D", other, other]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--zero-shot", "esn"), "--zero-shot esn is no language model. Did you mean 'esm'?"),
        (("--zero-shot", "esm2_t6_8M"), "is no language model"),
        (("--zero-shot", BACKBONE, "--weights-dir", "nowhere"), "The weights folder nowhere does not exist"),
        (("--zero-shot", BACKBONE, "--weights-dir", "empty"), f"{BACKBONE}.pt was looked for in empty and"),
        (("--zero-shot", BACKBONE, "--weights-dir", "headless"), "of the language model's head"),
        (("--zero-shot", BACKBONE, "--weights-dir", "garbage"), "truncated or no PyTorch checkpoint"),
        ((*SCORES, "scores.use=esm"), "'esm' is no score column"),
        ((*SCORES, "--zero-shot-file", "taken.csv"), "has a name that is taken"),
    ],
)
def test_what_gives_no_scores_is_one_sentence(searched: Path, words: tuple[str, ...], says: str) -> None:
    for folder in ("empty", "headless", "garbage"):
        (searched / folder).mkdir(exist_ok=True)
    weights = make_checkpoint(BACKBONES[BACKBONE])["model"]
    bare = {key: value for key, value in weights.items() if "lm_head" not in key}
    write_checkpoint(searched / "headless", BACKBONE, model=bare)
    (searched / "garbage" / f"{BACKBONE}.pt").write_bytes(b"garbage")
    write(
        searched / "taken.csv", "sequence,esm_masked_marginal", [(text, i) for i, (_, text, _) in enumerate(variants())]
    )
    before = sorted(path.name for path in (searched / "runs").iterdir())
    assert says in run_here(*WORDS, "--study-name", "other", "--quiet", *words, cwd=searched).refusal()
    assert sorted(path.name for path in (searched / "runs").iterdir()) == before


def test_random_weights_and_an_unknown_wild_type_are_refused(searched: Path) -> None:
    words = (*TABLE[:-1], "esm", "--quiet", "--zero-shot", "esm")
    assert (
        "model.pretrained=false leaves that with random"
        in run_here(*words, "model.pretrained=false", cwd=searched).refusal()
    )
    write(searched / "lengths.csv", "sequence,fitness", [(WILD_TYPE[: 20 + i % 9], i) for i in range(9)])
    words = ("--data", "lengths.csv", "--split", "random", "--model", "ridge", "--quiet", *SCORES)
    assert "that is not known: name it with --wild-type FASTA" in run_here(*words, cwd=searched).refusal()


def test_variants_of_other_lengths_alone_are_refused(searched: Path) -> None:
    write(searched / "long.csv", "sequence,fitness", [(f"{text}A", f"{value:.4f}") for _, text, value in variants()])
    words = ("--data", "long.csv", *WORDS[2:], *SCORES, "--study-name", "long", "--quiet")
    refusal = run_here(*words, cwd=searched).refusal()
    assert "training variants has a score 'esm_masked_marginal': leave it out" in refusal or "wild type" in refusal


def test_a_tampered_experiment_names_no_file(searched: Path) -> None:
    from search.experiments.sealed import seal

    text = (searched / SEEN).read_text()
    hostile = searched / "hostile.yaml"
    hostile.write_text(seal(text.replace(f"backbone: {BACKBONE}", "backbone: ../../weights")))
    assert "There is no language model '../../weights'" in run_here("verify", "hostile.yaml", cwd=searched).refusal()
    hostile.write_text(seal(text.replace(f"    backbone: {BACKBONE}\n", "")))
    assert "do not go together" in run_here("verify", "hostile.yaml", cwd=searched).refusal()
