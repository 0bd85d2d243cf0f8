# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
# qlr::cuda, made from qlr::qlr and the CUDA toolkit; used by our build and by the installed package.
find_package(CUDAToolkit 12 QUIET)
if(CUDAToolkit_FOUND AND NOT TARGET qlr::cuda)
  add_library(qlr::cuda INTERFACE IMPORTED GLOBAL)
  target_link_libraries(qlr::cuda INTERFACE qlr::qlr CUDA::cudart CUDA::cublas CUDA::cusolver)
  # A flag, because CMake before 3.26 does not know that nvcc has C++20; kernels call constexpr functions of the
  # standard library, such as std::bit_cast.
  target_compile_options(
    qlr::cuda INTERFACE "$<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:-std=c++20;--expt-relaxed-constexpr>")
endif()
