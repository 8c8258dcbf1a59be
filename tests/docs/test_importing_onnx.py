"""The page on ONNX: its code runs as shown."""


def test_the_page_runs(run_page):
    names = run_page("docs/howto/importing-onnx.md").names
    assert names["captured"].needs_calibration
    assert names["quantized"].outputs
