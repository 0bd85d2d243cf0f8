// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: this text is in no compiler message
#ifdef QLR_MISTAKE
#error "a mistake"
#endif
int main() {}
