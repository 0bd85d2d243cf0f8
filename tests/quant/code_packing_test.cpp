// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/quant/code_packing.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "../support/oracles.hpp"

#include <string>
#include <string_view>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr std::uint8_t guard = 0xA5;
constexpr int num_guards = 4;

/// The packed bytes of a row; checks that nothing but them is written.
std::vector<std::uint8_t> packed(code_order order, const std::vector<code_t>& codes, int bits) {
  const auto count = static_cast<index_t>(codes.size());
  const auto num_bytes = static_cast<std::size_t>(packed_bytes(count, bits));
  std::vector<std::uint8_t> bytes(num_bytes + 2 * num_guards, guard);
  pack_codes(order, codes.data(), count, bits, bytes.data() + num_guards);
  for (std::size_t i = 0; i < num_guards; ++i) {
    if (bytes[i] != guard || bytes[num_guards + num_bytes + i] != guard) {
      FAIL("pack wrote outside of " << num_bytes << " bytes");
    }
  }
  return {bytes.begin() + num_guards, bytes.end() - num_guards};
}

/// The codes in packed bytes; checks that nothing but them is written.
std::vector<code_t> unpacked(code_order order, const std::vector<std::uint8_t>& bytes, index_t count,
                             int bits) {
  std::vector<code_t> codes(static_cast<std::size_t>(count) + 2 * num_guards, guard);
  unpack_codes(order, bytes.data(), count, bits, codes.data() + num_guards);
  for (std::size_t i = 0; i < num_guards; ++i) {
    if (codes[i] != guard || codes[codes.size() - 1 - i] != guard) {
      FAIL("unpack wrote outside of " << count << " codes");
    }
  }
  return {codes.begin() + num_guards, codes.end() - num_guards};
}

std::vector<std::uint8_t> slow_packed(code_order order, const std::vector<code_t>& codes, int bits) {
  const auto count = static_cast<index_t>(codes.size());
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>((count * bits + 7) / 8), 0);
  for (index_t element = 0; element < count; ++element) {
    for (int bit = 0; bit < bits; ++bit) {
      if (((codes[static_cast<std::size_t>(element)] >> bit) & 1) == 0) continue;
      const auto [byte, position] = bit_place(order, count, bits, element, bit);
      bytes.at(static_cast<std::size_t>(byte)) |= static_cast<std::uint8_t>(1U << position);
    }
  }
  return bytes;
}

std::vector<code_t> random_codes(index_t count, int bits, std::uint64_t seed) {
  random_source random(seed);
  std::vector<code_t> codes;
  for (index_t i = 0; i < count; ++i)
    codes.push_back(static_cast<code_t>(random.word() & ((1U << bits) - 1U)));
  return codes;
}

/// Checks one line of the diagrams in code_packing.hpp: bytes separated by '|', most significant bit left,
/// each digit the element whose bit it is; a run of equal digits is read from the top bit of the code
/// downwards, where an element begins in `order`'s first byte.
void check_diagram(code_order order, int bits, index_t count, std::string_view diagram) {
  INFO(diagram);
  std::string digits;
  for (const char c : diagram) {
    if (c >= '0' && c <= '9') digits += c;
  }
  REQUIRE(digits.size() % 8 == 0);
  REQUIRE(static_cast<index_t>(digits.size()) == 8 * packed_bytes(count, bits));
  for (index_t element = 0; element < count; ++element) {
    std::vector<code_t> codes(static_cast<std::size_t>(count), 0);
    codes[static_cast<std::size_t>(element)] = static_cast<code_t>((1 << bits) - 1);
    const std::vector<std::uint8_t> bytes = packed(order, codes, bits);
    std::string seen;
    for (const std::uint8_t byte : bytes) {
      for (int bit = 7; bit >= 0; --bit)
        seen += ((byte >> bit) & 1) != 0 ? static_cast<char>('0' + element) : '.';
    }
    std::string expected = digits;
    for (char& c : expected) c = c == static_cast<char>('0' + element) ? c : '.';
    CHECK(seen == expected);
  }
}

const std::vector<code_order> all_orders{code_order::lsb_first, code_order::msb_first,
                                         code_order::split_half};

} // namespace

TEST_CASE("code_packing: the diagrams of the header hold", "[quant]") {
  check_diagram(code_order::lsb_first, 4, 2, "1111 0000");
  check_diagram(code_order::lsb_first, 2, 4, "33 22 11 00");
  check_diagram(code_order::lsb_first, 3, 8, "22 111 000 | 5 444 333 2 | 777 666 55");
  check_diagram(code_order::msb_first, 4, 2, "0000 1111");
  check_diagram(code_order::msb_first, 3, 8, "000 111 22 | 2 333 444 5 | 55 666 777");
  check_diagram(code_order::split_half, 4, 2, "1111 0000"); // a last block of 2 uses 1 in place of 16
}

TEST_CASE("code_packing: bits of a code that crosses bytes keep the stated order", "[quant]") {
  // Element 2 of 3-bit codes: two bits in byte 0, one in byte 1.
  CHECK(packed(code_order::lsb_first, {0, 0, 1}, 3) == std::vector<std::uint8_t>{0x40, 0x00});
  CHECK(packed(code_order::lsb_first, {0, 0, 4}, 3) == std::vector<std::uint8_t>{0x00, 0x01});
  CHECK(packed(code_order::msb_first, {0, 0, 1}, 3) == std::vector<std::uint8_t>{0x00, 0x80});
  CHECK(packed(code_order::msb_first, {0, 0, 4}, 3) == std::vector<std::uint8_t>{0x02, 0x00});
  CHECK(packed(code_order::lsb_first, {1, 0, 0, 1, 1}, 1) == std::vector<std::uint8_t>{0x19});
  CHECK(packed(code_order::msb_first, {1, 0, 0, 1, 1}, 1) == std::vector<std::uint8_t>{0x98});
}

TEST_CASE("code_packing: split halves of 32 put element j + 16 above element j", "[quant]") {
  std::vector<code_t> codes(32 + 5);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<code_t>((7 * i + 3) & 15U);
  const std::vector<std::uint8_t> bytes = packed(code_order::split_half, codes, 4);
  REQUIRE(bytes.size() == 19);
  for (std::size_t j = 0; j < 16; ++j) CHECK(bytes[j] == (codes[j + 16] << 4 | codes[j]));
  CHECK(bytes[16] == (codes[35] << 4 | codes[32])); // 5 elements: halves of (5 + 1) / 2 = 3
  CHECK(bytes[17] == (codes[36] << 4 | codes[33]));
  CHECK(bytes[18] == codes[34]);
}

TEST_CASE("code_packing: a row takes the bits it needs rounded up to bytes", "[quant]") {
  for (int bits = 1; bits <= 8; ++bits) {
    for (index_t count = 0; count <= 70; ++count) CHECK(packed_bytes(count, bits) == (count * bits + 7) / 8);
  }
  CHECK(packed_bytes(index_t{1} << 60, 8) == index_t{1} << 60); // no intermediate overflow
}

TEST_CASE("code_packing: packing equals setting bits one by one and unpacking inverts it",
          "[quant][property]") {
  for (const code_order order : all_orders) {
    for (int bits = 1; bits <= 8; ++bits) {
      if (order == code_order::split_half && bits != 4) continue;
      for (index_t count = 0; count <= 70; ++count) {
        CAPTURE(static_cast<int>(order), bits, count);
        const auto seed = static_cast<std::uint64_t>(100 * count + bits);
        std::vector<code_t> ones(static_cast<std::size_t>(count), static_cast<code_t>((1 << bits) - 1));
        for (const std::vector<code_t>& codes : {random_codes(count, bits, seed), ones}) {
          const std::vector<std::uint8_t> bytes = packed(order, codes, bits);
          CHECK(bytes == slow_packed(order, codes, bits)); // unused bits are zero here
          CHECK(unpacked(order, bytes, count, bits) == codes);
          // One code and one byte at a time, as kernels see them.
          std::vector<code_t> single_codes(codes.size());
          for (index_t i = 0; i < count; ++i)
            single_codes[static_cast<std::size_t>(i)] = packed_code(order, bytes.data(), count, bits, i);
          std::vector<std::uint8_t> single_bytes(bytes.size());
          for (std::size_t i = 0; i < bytes.size(); ++i)
            single_bytes[i] = packed_byte(order, codes.data(), count, bits, static_cast<index_t>(i));
          CHECK(single_codes == codes);
          CHECK(single_bytes == bytes);
        }
      }
    }
  }
}

TEST_CASE("code_packing: bits after the last code do not change what is unpacked", "[quant]") {
  for (const code_order order : {code_order::lsb_first, code_order::msb_first, code_order::split_half}) {
    for (int bits = 1; bits <= 7; ++bits) {
      if (order == code_order::split_half && bits != 4) continue;
      for (index_t count = 1; count <= 20; ++count) {
        const std::vector<code_t> codes = random_codes(count, bits, static_cast<std::uint64_t>(count));
        std::vector<std::uint8_t> bytes = packed(order, codes, bits);
        std::vector<std::uint8_t> mask =
            slow_packed(order, std::vector<code_t>(codes.size(), static_cast<code_t>((1 << bits) - 1)), bits);
        for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] |= static_cast<std::uint8_t>(~mask[i]);
        CHECK(unpacked(order, bytes, count, bits) == codes);
      }
    }
  }
}

TEST_CASE("code_packing: other widths are refused", "[quant]") {
  code_t codes[64] = {};
  std::uint8_t bytes[64] = {};
  for (const int bits : {-1, 0, 9, 16}) {
    CAPTURE(bits);
    for (const code_order order : {code_order::lsb_first, code_order::msb_first}) {
      CHECK(report_of([&] {
              pack_codes(order, codes, 8, bits, bytes);
            }).says(status_code::invalid_argument, "codes have 1 to 8"));
      CHECK(report_of([&] {
              unpack_codes(order, bytes, 8, bits, codes);
            }).says(status_code::invalid_argument, sentence("bits is ", bits)));
    }
  }
  for (const int bits : {1, 3, 5, 8}) {
    CHECK(report_of([&] {
            split_half_packing::pack(codes, 8, bits, bytes);
          }).says(status_code::invalid_argument, "split_half packing is for 4"));
    CHECK(report_of([&] {
            split_half_packing::unpack(bytes, 8, bits, codes);
          }).says(status_code::invalid_argument, sentence("bits is ", bits)));
  }
}
