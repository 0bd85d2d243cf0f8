# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
# What the library needs (Eigen, threads), what it can use (nlohmann_json, CUDA), and qlr_blas for our own programs.

find_package(Eigen3 3.4 REQUIRED NO_MODULE)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

find_package(nlohmann_json 3.9 QUIET)
if(NOT nlohmann_json_FOUND)
  message(STATUS "qlr: nlohmann_json not found, qlr::qlr is without it (the headers in qlr/io need it)")
endif()

# CUDA -> QLR_HAS_CUDA
if(QLR_ENABLE_CUDA STREQUAL "AUTO")
  include(CheckLanguage)
  set(CMAKE_MESSAGE_LOG_LEVEL WARNING) # one line below instead of check_language's two
  check_language(CUDA)
  unset(CMAKE_MESSAGE_LOG_LEVEL)
  if(NOT CMAKE_CUDA_COMPILER)
    message(STATUS "qlr: no CUDA compiler found, building without CUDA")
  endif()
  set(QLR_HAS_CUDA ${CMAKE_CUDA_COMPILER})
else()
  set(QLR_HAS_CUDA ${QLR_ENABLE_CUDA})
endif()
if(QLR_HAS_CUDA)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80 90a) # 90a: 90 with the instructions that no later architecture has
    set(qlr_test_architectures 90a) # the tests take minutes for each; examples and benchmarks are built for all
  endif()
  enable_language(CUDA)
endif()

if(NOT TARGET qlr_build_flags)
  return() # no programs of our own
endif()

# BLAS and LAPACKE -> qlr_blas; empty when they are left out
add_library(qlr_blas INTERFACE)
if(QLR_BLAS STREQUAL "AUTO")
  find_package(BLAS QUIET)
  find_path(QLR_LAPACKE_INCLUDE_DIR lapacke.h PATH_SUFFIXES openblas lapacke)
  find_library(QLR_LAPACKE_LIBRARY NAMES lapacke openblas)
  mark_as_advanced(QLR_LAPACKE_INCLUDE_DIR QLR_LAPACKE_LIBRARY)
  if(BLAS_FOUND AND QLR_LAPACKE_INCLUDE_DIR AND QLR_LAPACKE_LIBRARY)
    target_include_directories(qlr_blas SYSTEM INTERFACE "${QLR_LAPACKE_INCLUDE_DIR}")
    target_compile_definitions(qlr_blas INTERFACE QLR_USE_LAPACKE=1)
    target_link_libraries(qlr_blas INTERFACE "${QLR_LAPACKE_LIBRARY}" BLAS::BLAS)
    message(STATUS "qlr: our own programs use LAPACKE (${QLR_LAPACKE_LIBRARY}) and BLAS (${BLAS_LIBRARIES})")
  else()
    message(STATUS "qlr: LAPACKE or BLAS not found, our own programs use Eigen alone")
  endif()
else()
  message(STATUS "qlr: QLR_BLAS is ${QLR_BLAS}, our own programs use Eigen alone")
endif()
