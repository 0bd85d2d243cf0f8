# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
# What can be chosen, and qlr_build_flags: the flags of our own tests, examples and benchmarks.

set(QLR_SANITIZE "" CACHE STRING "Sanitizers of our own programs: empty, address,undefined or thread")
set_property(CACHE QLR_SANITIZE PROPERTY STRINGS "" "address,undefined" "thread")
option(QLR_BUILD_FUZZERS "Build the fuzzers (clang only, with sanitizers of their own)" OFF)

# A sanitizer sees neither into a BLAS nor through a GPU, and its reports should not depend on the machine.
if(QLR_SANITIZE OR QLR_BUILD_FUZZERS)
  set(tuned_default OFF)
  set(auto_default OFF)
  set(build_type_default Debug)
else()
  set(tuned_default ${PROJECT_IS_TOP_LEVEL})
  set(auto_default AUTO)
  set(build_type_default Release)
endif()

option(QLR_BUILD_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(QLR_BUILD_BENCHMARKS "Build the benchmarks" ${PROJECT_IS_TOP_LEVEL})
option(QLR_BUILD_EXAMPLES "Build the examples" ${PROJECT_IS_TOP_LEVEL})
option(QLR_INSTALL "Create the install rules" ${PROJECT_IS_TOP_LEVEL})
option(QLR_WERROR "Treat warnings in our own programs as errors" ${PROJECT_IS_TOP_LEVEL})
option(QLR_NATIVE "Compile our own programs with -march=native" ${tuned_default})
set(QLR_BLAS "${auto_default}" CACHE STRING "BLAS and LAPACKE for our own programs: AUTO or OFF")
set_property(CACHE QLR_BLAS PROPERTY STRINGS AUTO OFF)
if(NOT PROJECT_IS_TOP_LEVEL)
  set(auto_default OFF) # a parent project decides itself which languages it enables
endif()
set(QLR_ENABLE_CUDA "${auto_default}" CACHE STRING "CUDA: AUTO, ON or OFF")
set_property(CACHE QLR_ENABLE_CUDA PROPERTY STRINGS AUTO ON OFF)

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE ${build_type_default} CACHE STRING "Build type" FORCE)
endif()

if(NOT (QLR_BUILD_TESTS OR QLR_BUILD_BENCHMARKS OR QLR_BUILD_EXAMPLES))
  return()
endif()

add_library(qlr_build_flags INTERFACE)
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  set(flags -Wall -Wextra -Wconversion -Wshadow)
  if(QLR_WERROR)
    list(APPEND flags -Werror)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    list(APPEND flags -Wno-restrict) # "text" + std::string sets it off (GCC bug 105651, mended in 13)
  endif()
  if(QLR_NATIVE)
    include(CheckCXXCompilerFlag)
    check_cxx_compiler_flag(-march=native QLR_HAS_MARCH_NATIVE)
    if(QLR_HAS_MARCH_NATIVE)
      list(APPEND flags -march=native)
      if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
        # GCC's own AVX-512 header, inlined into Eigen, sets these off (GCC bug 105593 and its like).
        list(APPEND flags -Wno-maybe-uninitialized -Wno-uninitialized -Wno-array-bounds)
      endif()
    endif()
  endif()
  if(QLR_SANITIZE)
    # These come after the flags of the build type, so -O1 and -g1 hold. Reports need names and lines only; the
    # full description of every type is a sixth of the time to compile.
    list(APPEND flags -O1 -g1 -fno-omit-frame-pointer -fsanitize=${QLR_SANITIZE} -fno-sanitize-recover=all)
    target_link_options(qlr_build_flags INTERFACE -fsanitize=${QLR_SANITIZE})
  endif()
  target_compile_options(qlr_build_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${flags}>")
endif()

# The same for files that nvcc compiles.
add_library(qlr_cuda_build_flags INTERFACE)
# No kernel of ours uses Eigen, and nvcc warns of what Eigen 3.4 marks as device code.
target_compile_definitions(qlr_cuda_build_flags INTERFACE EIGEN_NO_CUDA)
target_compile_options(qlr_cuda_build_flags INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xcompiler=-Wall,-Wextra>")
if(QLR_WERROR)
  target_compile_options(qlr_cuda_build_flags INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings>")
endif()
