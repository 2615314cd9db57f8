"""Networks by name, their weights from files, and the input that they were made for."""

import pickle

import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torch import nn

import agents
from agents.networks import ModuleBody, make_body
from agents.networks.resnet import ResNet12
from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError
from tests.helpers.agents import batch_of_tasks

COLOUR = TaskSpec("classification", (3, 32, 32), 3, 5, (0, 1), (0, 2))
SMALL = (4, 4, 6, 8)


def flat(body: ModuleBody) -> torch.Tensor:
    return torch.cat([body.init(name, shape, None).flatten() for name, shape in body.shapes.items()])


def features_of(body: ModuleBody, x: torch.Tensor, stats: torch.Tensor | None = None) -> torch.Tensor:
    return body(flat(body)[None], x[None], stats, None)[0]


def plain_resnet12(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Written with torch.nn.functional from the description in the literature."""

    def norm(h, name):
        return F.batch_norm(h, None, None, weights[f"{name}.weight"], weights[f"{name}.bias"], training=True)

    for b in range(4):
        at = f"blocks.{b}"
        h = F.leaky_relu(norm(F.conv2d(x, weights[f"{at}.conv1.weight"], padding=1), f"{at}.bn1"), 0.1)
        h = F.leaky_relu(norm(F.conv2d(h, weights[f"{at}.conv2.weight"], padding=1), f"{at}.bn2"), 0.1)
        h = norm(F.conv2d(h, weights[f"{at}.conv3.weight"], padding=1), f"{at}.bn3")
        x = F.max_pool2d(F.leaky_relu(h + norm(F.conv2d(x, weights[f"{at}.shortcut.weight"]), f"{at}.bn4"), 0.1), 2)
    return x.mean((2, 3))


@pytest.mark.usefixtures("float64")
def test_resnet12_is_what_the_literature_describes():
    torch.manual_seed(0)
    net, x = ResNet12(3, SMALL).double(), torch.rand(5, 3, 32, 32)
    expected = plain_resnet12(dict(net.named_parameters()), x)
    torch.testing.assert_close(features_of(ModuleBody(net, (3, 32, 32)), x), expected, rtol=1e-10, atol=1e-10)


def test_the_published_widths_are_the_default():
    body = make_body("resnet12", (3, 84, 84))
    assert body.n_features == 640
    assert round(len(flat(body)) / 1e6, 1) == 12.4


@pytest.mark.parametrize(("size", "kernel"), [(84, 3), (224, 7)])
def test_resnet18_has_a_stem_for_the_size_of_the_images(size, kernel):
    body = make_body("resnet18", (3, size, size))
    assert body.n_features == 512
    assert body.shapes["body.conv1.weight"] == (64, 3, kernel, kernel)


@pytest.mark.usefixtures("float64")
def test_torchvision_weights_size_and_normalization(tmp_path):
    torch.manual_seed(1)
    published = torchvision.models.mobilenet_v3_small(weights=None)
    torch.save(published.state_dict(), tmp_path / "net.pt")
    body = make_body("torchvision:mobilenet_v3_small", (3, 40, 40), weights=str(tmp_path / "net.pt"))
    x = torch.rand(3, 3, 40, 40)
    found = features_of(body, x, body.initial_stats()[None])
    large = F.interpolate(x, (224, 224), mode="bilinear", antialias=True, align_corners=False)
    normal = (large - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        3, 1, 1
    )
    published.classifier[3] = nn.Identity()
    expected = published.double().eval()(normal)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_timm_networks_by_name():
    pytest.importorskip("timm")
    body = make_body("timm:resnet10t", (1, 32, 32))
    assert body.n_features == 512
    with pytest.raises(FewShotError, match=r"timm has no network 'resnet10' \(did you mean"):
        make_body("timm:resnet10", (3, 32, 32))


@pytest.mark.parametrize(
    ("network", "features"),
    [
        ("timm:test_vit", 64), ("timm:resnetv2_50", 2048), ("torchvision:vgg11", 4096), ("torchvision:vit_b_32", 768),
        ("torchvision:densenet121", 1024), ("torchvision:shufflenet_v2_x0_5", 1024),
    ],
)  # fmt: skip
def test_features_are_those_before_the_classifier(network, features):
    if network.startswith("timm"):
        pytest.importorskip("timm")
    assert make_body(network, (3, 32, 32)).n_features == features


def test_a_network_without_a_linear_classifier_is_refused():
    with pytest.raises(FewShotError, match="squeezenet1_1 does not end in a linear classifier"):
        make_body("torchvision:squeezenet1_1", (3, 32, 32))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_that_do_not_fit_are_counted_and_refused_unless_allowed(suffix, tmp_path, caplog):
    torch.manual_seed(2)
    weights = ResNet12(3, SMALL).state_dict()
    del weights["blocks.0.conv1.weight"]
    weights |= {"fc.weight": torch.zeros(3, 8), "blocks.1.conv1.weight": torch.zeros(1)}
    file = tmp_path / f"net{suffix}"
    save_file(weights, file) if suffix == ".safetensors" else torch.save({"state_dict": weights}, file)
    with pytest.raises(FewShotError) as refused:
        make_body("resnet12", (3, 32, 32), widths=SMALL, weights=str(file))
    for words in (
        "1 missing in it (blocks.0.conv1.weight)", "1 unknown to the network (fc.weight)",
        "1 of another shape (blocks.1.conv1.weight)", "agent.mismatched_weights=leave_out",
    ):  # fmt: skip
        assert words in str(refused.value)
    body = make_body("resnet12", (3, 32, 32), widths=SMALL, weights=str(file), leave_out=True)
    assert torch.equal(body.init("body.blocks.2.conv1.weight", (), None), weights["blocks.2.conv1.weight"])
    assert "other weights keep their initial values" in caplog.text


def test_code_in_a_file_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").write_text, ("it",))

    (tmp_path / "trap.pt").write_bytes(pickle.dumps(Trap()))
    torch.save(Trap(), tmp_path / "trap2.pt")
    for name in ("trap.pt", "trap2.pt"):
        with pytest.raises(FewShotError):
            make_body("resnet12", (3, 32, 32), widths=SMALL, weights=str(tmp_path / name))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("network", "weights", "words"),
    [
        ("resnet12", "nowhere.pt", "there is no file of weights nowhere.pt"),
        ("resnet12", "default", "the network resnet12 has no default weights; name a file"),
        ("conv4", "default", "agent.network_weights is for resnet12"),
        ("torchvision:resnet", "none", "torchvision has no network 'resnet' (did you mean"),
        ("resnet13", "none", "unknown network 'resnet13' (did you mean 'resnet1"),
    ],
)
def test_wrong_names_are_refused_in_one_line(network, weights, words):
    with pytest.raises(FewShotError) as refused:
        make_body(network, (3, 32, 32), weights=weights)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_saved_agent_needs_its_file_of_weights_no_more(tmp_path):
    file = tmp_path / "net.safetensors"
    torch.manual_seed(3)
    save_file(ResNet12(3, SMALL).state_dict(), file)
    agent = agents.make("maml", COLOUR, network="resnet12", widths=SMALL, network_weights=str(file)).eval()
    task = batch_of_tasks(COLOUR)
    expected = agent.predict(agent.adapt(task.support), task.query.x)
    agents.save(agent, tmp_path / "agent.pt")
    file.unlink()
    again = agents.load(tmp_path / "agent.pt")
    assert torch.equal(again.predict(again.adapt(task.support), task.query.x), expected)
