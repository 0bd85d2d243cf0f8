# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
# Builds and runs the consumer project in WORK_DIR with qlr found the given WAY.

set(consumer_dir "${CMAKE_CURRENT_LIST_DIR}/consumer")
foreach(variable CXXFLAGS CPPFLAGS LDFLAGS)
  unset(ENV{${variable}}) # every flag seen below comes from qlr
endforeach()
file(REMOVE_RECURSE "${WORK_DIR}")
file(MAKE_DIRECTORY "${WORK_DIR}")

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE code WORKING_DIRECTORY "${WORK_DIR}")
  if(NOT code EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "package: '${command}' failed: ${code}")
  endif()
endfunction()

if(WAY STREQUAL "plain_compiler")
  # The program printed in the README, word for word.
  file(READ "${QLR_SOURCE_DIR}/README.md" readme)
  if(NOT readme MATCHES "\n```cpp\n([^`]*)```")
    message(FATAL_ERROR "package: the README holds no C++ program")
  endif()
  file(WRITE "${WORK_DIR}/main.cpp" "${CMAKE_MATCH_1}")
  run("${COMPILER}" -std=c++20 ${INCLUDE_FLAGS} -pthread "${WORK_DIR}/main.cpp" -o "${WORK_DIR}/consumer")
else()
  if(WAY STREQUAL "find_package")
    run("${CMAKE_COMMAND}" --install "${QLR_BINARY_DIR}" --prefix "${WORK_DIR}/prefix")
  endif()
  run("${CMAKE_COMMAND}" -S "${consumer_dir}" -B "${WORK_DIR}" "-DWAY=${WAY}" "-DCMAKE_CXX_COMPILER=${COMPILER}"
      "-DQLR_SOURCE_DIR=${QLR_SOURCE_DIR}" "-DQLR_VERSION=${QLR_VERSION}" "-DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix"
      "-DEigen3_DIR=${Eigen3_DIR}" "-Dnlohmann_json_DIR=${nlohmann_json_DIR}")
  run("${CMAKE_COMMAND}" --build "${WORK_DIR}")
  file(READ "${WORK_DIR}/compile_commands.json" commands)
  if(commands MATCHES "[ \"](-m[^ ]*|-W[^ ]*|-O[^ ]*|-fsanitize[^ ]*|-DQLR_[^ ]*)")
    message(FATAL_ERROR "package: ${CMAKE_MATCH_1} leaks to the consumer\n${commands}")
  endif()
endif()
run("${WORK_DIR}/consumer")
