"""Kinds of kernels by their names, and the time in which a GPU does nothing."""

from types import SimpleNamespace
from typing import Any

import pytest

from polyglance.train.kernels import _idle_share, _is_work, classify_kernel


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nvjet_tst_192x192_64x4_2x1_v_bz_coopB_TNT", "matrix products"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", "matrix products"),
        ("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64>>", "attention"),
        ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80", "attention"),
        ("void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor>", "optimiser"),
        ("Memcpy HtoD (Pinned -> Device)", "copies and casts"),
        ("triton_poi_fused_add_mul_tanh_0", "compiled"),
        ("triton_red_fused__scaled_dot_product_attention_convolution_native_layer_norm_3", "compiled"),
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL", "messages"),
        ("void at::native::vectorized_elementwise_kernel<4, CUDAFunctor_add<float>>", "elementwise and other"),
        ("void cunn_SoftMaxForward<8, float>", "sums, norms and softmax"),
    ],
)
def test_kinds(name: str, kind: str) -> None:
    assert classify_kernel(name) == kind


def test_overlapping_kernels_count_once() -> None:
    assert _idle_share([(0.0, 4.0), (2.0, 5.0), (9.0, 10.0)]) == pytest.approx(0.4)
    assert _idle_share([(0.0, 10.0), (2.0, 3.0)]) == 0
    assert _idle_share([]) == 0


def event(device: str, *, is_named_span: bool = False) -> Any:
    return SimpleNamespace(device_type=SimpleNamespace(name=device), is_user_annotation=is_named_span)


def test_a_span_that_a_program_named_is_no_work_of_the_gpu() -> None:
    """torch names the optimiser's step, which would cover all the gaps between its kernels."""
    assert _is_work(event("CUDA"), on_gpu=True)
    assert not _is_work(event("CUDA", is_named_span=True), on_gpu=True)
    assert not _is_work(event("CPU"), on_gpu=True)
    assert _is_work(event("CPU"), on_gpu=False)
