# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
# CMake toolchain: Debian's cross compiler for AArch64; programs run in its emulator (packages g++-aarch64-linux-gnu
# and qemu-user).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-aarch64;-L;/usr/aarch64-linux-gnu")

# Headers and CMake packages of this machine may serve, its libraries and programs do not.
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
