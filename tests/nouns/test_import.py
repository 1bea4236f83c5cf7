import subprocess
import sys


def test_importing_vultus_does_not_import_torch() -> None:
    code = "import sys, vultus; assert 'torch' not in sys.modules; assert vultus.__version__"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_resolve() -> None:
    import vultus

    for name in vultus.__all__:
        assert getattr(vultus, name) is not None
