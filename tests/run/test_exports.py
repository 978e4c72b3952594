"""What is exported of a colour net answers as its run does: the graph in ONNX's runtime, the weights in PyTorch."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from stored import here

from odyssey_core.backends import BACKENDS
from odyssey_core.data import DATASETS
from odyssey_run.runs.recorded import open_folder

pytestmark = pytest.mark.filterwarnings("ignore")  # of PyTorch's import

IMAGES = 40
RUN = (
    "data=noise", f"data.count={IMAGES}", "data.mean=[0.5,0.4,0.6]", "data.std=[0.25,0.2,0.3]", "backend=numpy",
    "tracking=none", "plots.enabled=false", "trainer.validation_size=0", "trainer.batch_size=8", "trainer.max_steps=3",
    "run.name=net",
)  # fmt: skip
NETS = {"resnet20": ("model=resnet20", "model.width=4"), "airbench": ("model=airbench", "model.size=93")}
MODULES = {
    "resnet20": lambda: importlib.import_module("torch_nets").resnet(20, 4)(3, 10),
    "airbench": lambda: importlib.import_module("torch_airbench").Airbench93(3, 10),
}


@pytest.fixture(scope="module", params=NETS)
def net(request, tmp_path_factory):
    """Its name, the folder of its run, the test images and the logits that the run gives them."""
    folder = tmp_path_factory.mktemp("exports")
    code, said = here(folder, *RUN, *NETS[request.param])
    assert code == 0, said
    test = DATASETS["noise"](count=IMAGES).test
    logits, _ = open_folder(folder / "runs" / "net").classifier(BACKENDS["numpy"]()).evaluate(test)
    assert logits.std(axis=0).max() > 1e-2, "the images are told apart"
    return request.param, folder, test.pixels, logits


def test_onnx_gives_the_same_logits(net):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    _, folder, pixels, logits = net
    assert here(folder, "task=export", "run_id=net", "format=onnx", "tracking=none")[0] == 0
    (found,) = runtime.InferenceSession(folder / "net.onnx").run(None, {"pixels": pixels})
    np.testing.assert_allclose(found, logits, rtol=0, atol=2e-5)


def test_pytorch_gives_the_same_logits(net, monkeypatch):
    """Of images normalised as the export says."""
    torch = pytest.importorskip("torch")
    name, folder, pixels, logits = net
    code, said = here(folder, "task=export", "run_id=net", "format=torch", "tracking=none")
    assert code == 0, said
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "fixtures")
    module = MODULES[name]().eval()
    weights = importlib.import_module("safetensors.torch").load_file(folder / "net.safetensors")
    missing, unknown = module.load_state_dict(weights, strict=False)
    assert not unknown and all("num_batches_tracked" in each for each in missing)
    expression = said.partition("it takes ")[2].partition(", float32")[0]
    images = eval(expression, {"pixels": torch.tensor(pixels), "torch": torch})
    with torch.no_grad():
        found = module(images).numpy()
    np.testing.assert_allclose(found, logits, rtol=0, atol=2e-5)
