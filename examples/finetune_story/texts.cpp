// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <finetune_story/texts.hpp>

#include <story/sampler.hpp>

#include <qlr/core/random.hpp>
#include <qlr/core/status.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <set>
#include <utility>

namespace {

using qlr::index_t;
using qlr::require;
using qlr::status_code;
using sequence = std::vector<token_t>;

/// stories260K names someone Lily in 36 % of 1000 texts of 65 tokens, twice as often as the next name. That
/// is often enough to take only such texts, with no prompt that would make their beginnings all the same. 93
/// % of them have the name within 20 tokens, so that the others are given up after so many.
constexpr index_t opening_tokens = 20;

/// Written beyond a sequence, as the new name may take fewer tokens.
constexpr index_t spare_tokens = 4;

/// Stories of a session, and of what is written before any is counted.
constexpr index_t stories_per_task = 2;
constexpr index_t stories_per_round = 32;

bool is_in_word(char character) {
  return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
         (character >= '0' && character <= '9');
}

bool is_word(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, is_in_word);
}

/// The place where a word stands alone, at `from` or behind; npos where there is none.
std::size_t find_word(std::string_view text, std::string_view word, std::size_t from = 0) {
  for (std::size_t at = text.find(word, from); at != std::string_view::npos; at = text.find(word, at + 1)) {
    const std::size_t end = at + word.size();
    const bool begins = at == 0 || !is_in_word(text[at - 1]);
    const bool ends = end == text.size() || !is_in_word(text[end]);
    if (begins && ends) return at;
  }
  return std::string_view::npos;
}

bool mentions(std::string_view text, std::string_view word) {
  return find_word(text, word) != std::string_view::npos;
}

std::uint64_t join(std::uint32_t low, std::uint32_t high) {
  return low | (std::uint64_t{high} << 32U);
}

struct story {
  sequence plain;
  sequence shifted;
};

/// Writes one story after the other, those of an index always the same.
class story_writer {
public:
  story_writer(const model& source, const tokenizer& words, const text_options& options)
      : words_(words), options_(options), size_(static_cast<std::size_t>(options.length) + 1),
        session_(source, options.length + spare_tokens, qlr::precision::exact, {}) {}

  /// Nothing where the story ends too early or does not mention the name.
  std::optional<story> write(std::uint64_t index) {
    const std::array<std::uint32_t, 4> seeds = qlr::philox(options_.seed, index);
    const index_t all = options_.length + spare_tokens;
    sequence tokens{tokenizer::begin_of_text};
    extend(tokens, std::min(opening_tokens, all), join(seeds[0], seeds[1]));
    if (!mentions(decode_all(words_, tokens), options_.name)) return {};
    const index_t rest = all + 1 - static_cast<index_t>(tokens.size());
    if (!has_ended_ && rest > 0) extend(tokens, rest, join(seeds[2], seeds[3]));
    return cut(std::move(tokens));
  }

private:
  void extend(sequence& tokens, index_t count, std::uint64_t seed) {
    session_.clear();
    has_ended_ = generate(session_, tokens, count, sampler(1.0, seed)).end.has_value();
  }

  [[nodiscard]] std::optional<story> cut(sequence tokens) const {
    const std::string text = decode_all(words_, tokens);
    sequence shifted = words_.encode(replace_word(text, options_.name, options_.new_name));
    if (std::min(tokens.size(), shifted.size()) < size_ || mentions(text, options_.new_name)) return {};
    tokens.resize(size_);
    shifted.resize(size_);
    if (!mentions(decode_all(words_, tokens), options_.name)) return {};
    if (!mentions(decode_all(words_, shifted), options_.new_name)) return {};
    return story{std::move(tokens), std::move(shifted)};
  }

  const tokenizer& words_;
  const text_options& options_;
  std::size_t size_; ///< tokens of a sequence
  session session_;
  bool has_ended_ = false;
};

/// Takes stories for one set after the other, none twice.
class story_collector {
public:
  story_collector(const model& source, const tokenizer& words, const text_options& options,
                  const qlr::executor& run)
      : source_(source), words_(words), options_(options), run_(run) {}

  /// @param first  index of the first story to write
  std::vector<story> take(index_t count, std::uint64_t first) {
    const index_t most = 512 + 64 * count; // written stories
    std::vector<story> result;
    for (index_t written = 0; static_cast<index_t>(result.size()) < count; written += stories_per_round) {
      require(written < most, status_code::invalid_argument, "name is '", options_.name, "', length is ",
              options_.length, ": of ", written, " stories that the model wrote, only ", result.size(),
              " are that long and mention the name, ", count, " are needed");
      for (std::optional<story>& next : write_round(first + static_cast<std::uint64_t>(written))) {
        const bool is_needed = next && static_cast<index_t>(result.size()) < count;
        if (is_needed && taken_.insert(next->plain).second) result.push_back(*std::move(next));
      }
    }
    return result;
  }

private:
  [[nodiscard]] std::vector<std::optional<story>> write_round(std::uint64_t first) const {
    std::vector<std::optional<story>> round(stories_per_round);
    qlr::for_each_range(run_, stories_per_round, stories_per_task, [&](index_t begin, index_t end) {
      story_writer writer(source_, words_, options_);
      for (index_t i = begin; i < end; ++i) {
        round[static_cast<std::size_t>(i)] = writer.write(first + static_cast<std::uint64_t>(i));
      }
    });
    return round;
  }

  const model& source_;
  const tokenizer& words_;
  const text_options& options_;
  qlr::executor run_;
  std::set<sequence> taken_;
};

void check(const text_options& options, index_t context) {
  const auto check_range = [](const char* what, index_t value, index_t least, index_t most) {
    require(value >= least && value <= most, status_code::invalid_argument, what, " is ", value,
            ", allowed are ", least, " to ", most);
  };
  constexpr index_t most_texts = 1 << 20;
  check_range("length", options.length, 1, context - spare_tokens);
  check_range("num_training", options.num_training, 0, most_texts);
  check_range("num_held_out", options.num_held_out, 0, most_texts);
  for (const std::string& name : {options.name, options.new_name}) {
    require(is_word(name), status_code::invalid_argument, "name is '", name,
            "', allowed are letters and digits");
  }
  require(options.name != options.new_name, status_code::invalid_argument, "new_name is '", options.new_name,
          "', allowed is any other than the name itself");
}

/// All indices, sorted by random numbers.
std::vector<index_t> epoch_order(index_t count, std::uint64_t seed, index_t epoch) {
  const std::array<std::uint32_t, 4> words = qlr::philox(seed, static_cast<std::uint64_t>(epoch));
  const std::uint64_t key = join(words[0], words[1]);
  std::vector<std::pair<std::uint64_t, index_t>> drawn;
  for (index_t i = 0; i < count; ++i) {
    const std::array<std::uint32_t, 4> number = qlr::philox(key, static_cast<std::uint64_t>(i));
    drawn.emplace_back(join(number[0], number[1]), i);
  }
  std::ranges::sort(drawn);
  std::vector<index_t> order;
  order.reserve(drawn.size());
  for (const auto& [number, index] : drawn) order.push_back(index);
  return order;
}

} // namespace

story_texts make_texts(const model& writer, const tokenizer& words, const text_options& options,
                       const qlr::executor& run) {
  check(options, writer.weights.config().context);
  constexpr std::uint64_t first_held_out = std::uint64_t{1} << 32U; // beyond what training may write
  story_collector stories(writer, words, options, run);
  story_texts result;
  for (story& next : stories.take(options.num_held_out, first_held_out)) {
    result.plain.held_out.push_back(std::move(next.plain));
    result.shifted.held_out.push_back(std::move(next.shifted));
  }
  for (story& next : stories.take(options.num_training, 0)) {
    result.plain.training.push_back(std::move(next.plain));
    result.shifted.training.push_back(std::move(next.shifted));
  }
  return result;
}

std::string replace_word(std::string_view text, std::string_view word, std::string_view by) {
  std::string result;
  std::size_t begin = 0;
  for (std::size_t at = find_word(text, word); at != std::string_view::npos;
       at = find_word(text, word, begin)) {
    result.append(text.substr(begin, at - begin)).append(by);
    begin = at + word.size();
  }
  return result.append(text.substr(begin));
}

std::string decode_all(const tokenizer& words, const std::vector<token_t>& tokens) {
  std::string text;
  for (std::size_t i = 1; i < tokens.size(); ++i) text += words.decode(tokens[i - 1], tokens[i]);
  return text;
}

std::vector<index_t> choose_batch(index_t num_sequences, index_t batch_size, std::uint64_t seed,
                                  index_t step) {
  require(num_sequences > 0, status_code::invalid_argument, "num_sequences is ", num_sequences,
          ", allowed are 1 and above");
  require(batch_size > 0, status_code::invalid_argument, "batch_size is ", batch_size,
          ", allowed are 1 and above");
  const index_t last_step = std::numeric_limits<index_t>::max() / batch_size - 1;
  require(step >= 0 && step <= last_step, status_code::invalid_argument, "step is ", step,
          ", allowed are 0 to ", last_step);
  std::vector<index_t> batch;
  std::vector<index_t> order;
  for (index_t place = step * batch_size; place < (step + 1) * batch_size; ++place) {
    const index_t within = place % num_sequences;
    if (order.empty() || within == 0) order = epoch_order(num_sequences, seed, place / num_sequences);
    batch.push_back(order[static_cast<std::size_t>(within)]);
  }
  return batch;
}
