# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
# How tests are made: the test libraries, qlr_add_room_test and qlr_collect_include_flags.

find_package(nlohmann_json 3.9 QUIET)
find_package(Catch2 3 QUIET)
if(NOT Catch2_FOUND)
  find_package(Catch2 2.13 QUIET)
endif()
find_package(Python3 QUIET COMPONENTS Interpreter)
if(NOT Catch2_FOUND OR NOT nlohmann_json_FOUND OR NOT Python3_FOUND)
  message(FATAL_ERROR "qlr: the tests need Catch2 (2.13 or later), nlohmann_json and Python 3; "
                      "run cmake/install_dependencies.sh or set -DQLR_BUILD_TESTS=OFF")
endif()
list(APPEND CMAKE_MODULE_PATH "${Catch2_DIR}")
include(Catch)

set(QLR_TEST_DATA_DIR "${PROJECT_SOURCE_DIR}/../shared" CACHE PATH "Reference data; tests without theirs are skipped")

# qlr_test_main: Catch2's main function, compiled once and without our flags, as nothing checks Catch itself
if(Catch2_VERSION VERSION_GREATER_EQUAL 3)
  add_library(qlr_test_main INTERFACE)
  target_link_libraries(qlr_test_main INTERFACE Catch2::Catch2WithMain)
else()
  add_library(qlr_test_main STATIC support/main.cpp)
  target_link_libraries(qlr_test_main PUBLIC Catch2::Catch2)
  target_compile_features(qlr_test_main PUBLIC cxx_std_20) # Catch's parts depend on the standard
endif()

# qlr_test_support: what every test program is linked with
add_library(qlr_test_support INTERFACE)
target_link_libraries(qlr_test_support INTERFACE qlr::qlr qlr_build_flags qlr_blas)
target_include_directories(qlr_test_support INTERFACE "${PROJECT_SOURCE_DIR}/tests")
target_compile_definitions(
  qlr_test_support INTERFACE QLR_TEST_DATA_DIR="${QLR_TEST_DATA_DIR}"
                             QLR_TEST_CORPUS_DIR="${PROJECT_SOURCE_DIR}/tests/fuzz/corpus")

# qlr_test_instances: what takes long to compile and several test programs need
add_library(
  qlr_test_instances STATIC
  support/adapter.cpp support/cpu.cpp support/decompose.cpp support/exact_svd.cpp support/feedback.cpp support/matmul.cpp
  support/small_svd.cpp)
target_link_libraries(qlr_test_instances PRIVATE qlr_test_support)

# A test that lacks its data prints "SKIPPED: reason" and returns; one that also failed a check is not skipped.
set(QLR_SKIP_REGEX "SKIPPED:.*(All tests passed|assertions: - none -)")

# qlr_add_room_test(<room> <source>...): one program with every test of a room. ctest label: the room; tests with
# "thread" in their name have the label threads too.
function(qlr_add_room_test room)
  set(target qlr_${room}_test)
  add_executable(${target} ${ARGN})
  target_link_libraries(${target} PRIVATE qlr_test_support qlr_test_instances qlr_test_main)
  target_precompile_headers(${target} PRIVATE <support/catch.hpp>) # seconds of every test file
  catch_discover_tests(
    ${target}
    PROPERTIES LABELS ${room} TIMEOUT 1500
    SKIP_REGULAR_EXPRESSION "${QLR_SKIP_REGEX}"
    FAIL_REGULAR_EXPRESSION "No test cases matched")
  set(label_script "${CMAKE_CURRENT_BINARY_DIR}/${target}_labels.cmake")
  file(WRITE "${label_script}" "foreach(test IN LISTS ${target}_TESTS)
  if(test MATCHES \"thread\")
    set_tests_properties(\"\${test}\" PROPERTIES LABELS \"${room};threads\")
  endif()
endforeach()
")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${label_script}")
endfunction()

# qlr_collect_include_flags(<variable>): -I flags of a plain compiler command that uses qlr::qlr
function(qlr_collect_include_flags variable)
  set(directories "")
  foreach(target qlr::qlr Eigen3::Eigen nlohmann_json::nlohmann_json)
    list(APPEND directories "$<TARGET_PROPERTY:${target},INTERFACE_INCLUDE_DIRECTORIES>")
  endforeach()
  set(${variable} "-I$<JOIN:${directories},;-I>" PARENT_SCOPE)
endfunction()
