#pragma once

// The one way into LibTorch: this header is precompiled. torch/torch.h is never included.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
