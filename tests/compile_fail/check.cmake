# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
# Compiles SOURCE twice: without QLR_MISTAKE it must compile; with it, it must not, and the compiler's output must
# match the regular expression of the line "// EXPECT: <regex>" in SOURCE.

function(compile result output)
  execute_process(
    COMMAND "${COMPILER}" -std=c++20 -fsyntax-only ${INCLUDE_FLAGS} ${ARGN} "${SOURCE}"
    RESULT_VARIABLE code
    OUTPUT_VARIABLE text
    ERROR_VARIABLE text)
  set(${result} "${code}" PARENT_SCOPE)
  set(${output} "${text}" PARENT_SCOPE)
endfunction()

file(STRINGS "${SOURCE}" expected REGEX "^// EXPECT: ")
string(REPLACE "// EXPECT: " "" expected "${expected}")
if(expected STREQUAL "")
  message(FATAL_ERROR "${SOURCE} has no line '// EXPECT: <regex>'")
endif()

compile(code output)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "compile_fail: broken_example: without QLR_MISTAKE it must compile\n${output}")
endif()
compile(code output -DQLR_MISTAKE)
if(code EQUAL 0)
  message(FATAL_ERROR "compile_fail: accepted_mistake: with QLR_MISTAKE it must not compile")
endif()
if(NOT output MATCHES "${expected}")
  message(FATAL_ERROR "compile_fail: other_message: expected '${expected}', the compiler said\n${output}")
endif()
