// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <finetune_story/texts.hpp>
#include <story/sampler.hpp>
#include <support/catch.hpp>

#include <qlr/core/status.hpp>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace {

using qlr::index_t;
using sequence = std::vector<token_t>;

/// True when the small language model is there; otherwise prints why the test is skipped.
bool has_model() {
  const std::string folder = std::string(QLR_TEST_DATA_DIR) + "/weights";
  for (const char* const name : {"stories260K.safetensors", "tok512.bin"}) {
    if (std::filesystem::exists(folder + "/" + name)) continue;
    std::cout << "SKIPPED: weights of the language model not found in " << folder << '\n';
    return false;
  }
  return true;
}

struct storyteller {
  checkpoint weights{std::string(QLR_TEST_DATA_DIR) + "/weights/stories260K.safetensors"};
  tokenizer words{std::string(QLR_TEST_DATA_DIR) + "/weights/tok512.bin", weights.config().num_tokens};
  model dense = make_dense_model(weights);

  [[nodiscard]] story_texts write(const text_options& options, const qlr::executor& run = {}) const {
    return make_texts(dense, words, options, run);
  }
};

std::vector<sequence> all_of(const texts& some) {
  std::vector<sequence> result = some.training;
  result.insert(result.end(), some.held_out.begin(), some.held_out.end());
  return result;
}

bool is_same(const texts& a, const texts& b) {
  return a.training == b.training && a.held_out == b.held_out;
}

/// The words of a text, by a scan of its characters.
std::set<std::string> words_of(const std::string& text) {
  const std::string letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  std::set<std::string> result;
  std::string word;
  for (const char character : text + " ") {
    if (letters.find(character) != std::string::npos) {
      word += character;
    } else if (!word.empty()) {
      result.insert(word);
      word.clear();
    }
  }
  return result;
}

/// Mean loss of the targets, in nats.
double loss_of(const storyteller& teller, const std::vector<sequence>& some) {
  const auto length = static_cast<index_t>(some.front().size()) - 1;
  session reader(teller.dense, length, qlr::precision::exact, {});
  qlr::matrix<float> logits(length, reader.num_tokens());
  double sum = 0;
  for (const sequence& tokens : some) {
    reader.clear();
    reader.read({tokens.data(), static_cast<std::size_t>(length)}, logits.view());
    for (index_t t = 0; t < length; ++t) {
      const std::span<const float> row(&logits(t, 0), static_cast<std::size_t>(logits.cols()));
      const auto target = static_cast<std::size_t>(tokens[static_cast<std::size_t>(t) + 1]);
      sum += log_sum_exp(row) - static_cast<double>(row[target]);
    }
  }
  return sum / static_cast<double>(static_cast<index_t>(some.size()) * length);
}

text_options small_options() {
  text_options options;
  options.length = 32;
  options.num_training = 12;
  options.num_held_out = 6;
  return options;
}

} // namespace

TEST_CASE("replace_word: takes whole words only", "[finetune]") {
  CHECK(replace_word("Lily and Lily's cat, Lily.", "Lily", "Zog") == "Zog and Zog's cat, Zog.");
  CHECK(replace_word("Lilys lily xLily Lily2 9Lily LilyLily", "Lily", "Zog") ==
        "Lilys lily xLily Lily2 9Lily LilyLily");
  CHECK(replace_word("\"Lily\"\nLily-Lily_Lily", "Lily", "Zog") == "\"Zog\"\nZog-Zog_Zog");
  CHECK(replace_word("aaa aa a", "a", "aa") == "aaa aa aa");
  CHECK(replace_word("Lily", "Lily", "").empty());
  CHECK(replace_word("", "Lily", "Zog").empty());
  CHECK(replace_word("Lil", "Lily", "Zog") == "Lil");
}

TEST_CASE("make_texts: sequences have the length asked for and begin as a text does", "[finetune]") {
  if (!has_model()) return;
  const storyteller teller;
  for (const index_t length : {17, 64, 65, 300}) { // many stories end before 300 tokens
    text_options options = small_options();
    options.length = length;
    options.num_training = 4;
    options.num_held_out = 2;
    const story_texts made = teller.write(options);
    for (const texts* some : {&made.plain, &made.shifted}) {
      CHECK(some->training.size() == 4);
      CHECK(some->held_out.size() == 2);
      for (const sequence& tokens : all_of(*some)) {
        CHECK(static_cast<index_t>(tokens.size()) == length + 1);
        CHECK(tokens.front() == tokenizer::begin_of_text);
        const bool is_inside = std::all_of(tokens.begin() + 1, tokens.end(),
                                           [](token_t token) { return token > 2 && token < 512; });
        CHECK(is_inside);
      }
    }
  }
}

TEST_CASE("make_texts: shifted texts are the plain ones with the other name", "[finetune]") {
  if (!has_model()) return;
  const storyteller teller;
  struct example {
    index_t length;
    std::string name;
    std::string new_name;
  };
  const std::vector<example> examples{
      {16, "Lily", "Zog"},
      {64, "Lily", "Zog"},
      {40, "Lily", "One"},    // many begin a sentence with One: they are left out
      {16, "Timmy", "Lily"}}; // from three tokens to one
  for (const auto& [length, name, new_name] : examples) {
    text_options options = small_options();
    options.length = length;
    options.name = name;
    options.new_name = new_name;
    const story_texts made = teller.write(options);
    const auto plain = all_of(made.plain);
    const auto shifted = all_of(made.shifted);
    for (std::size_t i = 0; i < plain.size(); ++i) {
      const std::string before = decode_all(teller.words, plain[i]);
      const std::string after = decode_all(teller.words, shifted[i]);
      INFO(before << "\n" << after);
      CHECK(!words_of(before).contains(new_name));
      CHECK(!words_of(after).contains(name));
      CHECK(words_of(after).contains(new_name));
      const sequence opening(plain[i].begin(), plain[i].begin() + std::min<index_t>(length, 20) + 1);
      CHECK(words_of(decode_all(teller.words, opening)).contains(name));
      // They are cut after as many tokens, which are not as many characters.
      const std::string expected = replace_word(before, name, new_name);
      const std::size_t common = std::min(expected.size(), after.size());
      CHECK(static_cast<index_t>(common) > length);
      CHECK(expected.substr(0, common) == after.substr(0, common));
      // The tokens are those that the tokenizer makes of the text, but for a last word that was cut.
      const sequence encoded = teller.words.encode(after);
      CHECK(std::equal(shifted[i].begin(), shifted[i].end() - 4, encoded.begin()));
    }
  }
}

TEST_CASE("make_texts: the name makes the texts harder for the model that wrote them", "[finetune]") {
  if (!has_model()) return;
  const storyteller teller;
  text_options options;
  options.num_training = 0;
  const story_texts made = teller.write(options);
  const double plain = loss_of(teller, made.plain.held_out);
  const double shifted = loss_of(teller, made.shifted.held_out);
  INFO("plain " << plain << ", shifted " << shifted);
  CHECK(plain > 0.5); // a model samples what it finds likely: about the entropy of its predictions
  CHECK(plain < 2.0);
  CHECK(shifted > plain + 0.2);
}

TEST_CASE("make_texts: no story is taken twice, for training and for held-out texts", "[finetune]") {
  if (!has_model()) return;
  const storyteller teller;
  text_options options = small_options();
  options.length = 8; // so short that the model repeats itself
  options.num_training = 40;
  options.num_held_out = 20;
  options.name = "Once";
  options.new_name = "Twice";
  const story_texts made = teller.write(options);
  const auto plain = all_of(made.plain);
  CHECK(plain.size() == 60);
  CHECK(std::set<sequence>(plain.begin(), plain.end()).size() == 60);
}

TEST_CASE("make_texts: numbers of texts do not change the texts", "[finetune]") {
  if (!has_model()) return;
  const storyteller teller;
  text_options options = small_options();
  const story_texts few = teller.write(options);
  options.num_training = 20;
  const story_texts more = teller.write(options);
  CHECK(more.plain.held_out == few.plain.held_out);
  CHECK(more.shifted.held_out == few.shifted.held_out);
  CHECK(std::equal(few.plain.training.begin(), few.plain.training.end(), more.plain.training.begin()));
  CHECK(std::equal(few.shifted.training.begin(), few.shifted.training.end(), more.shifted.training.begin()));
  options.num_training = 0;
  options.num_held_out = 0;
  CHECK(all_of(teller.write(options).shifted).empty());
}

TEST_CASE("make_texts: the seed alone decides, not the threads", "[finetune]") {
  if (!has_model()) return;
  const storyteller teller;
  text_options options = small_options();
  const story_texts expected = teller.write(options);
  for (const int threads : {1, 2, 3}) {
    qlr::thread_pool pool(threads);
    const story_texts made = teller.write(options, pool);
    CHECK(is_same(made.plain, expected.plain));
    CHECK(is_same(made.shifted, expected.shifted));
  }
  options.seed = 2;
  const auto others = all_of(teller.write(options).plain);
  const auto first = all_of(expected.plain);
  for (const sequence& tokens : others) CHECK(std::count(first.begin(), first.end(), tokens) == 0);
}

TEST_CASE("make_texts: options that cannot be are refused", "[finetune]") {
  if (!has_model()) return;
  const storyteller teller;
  const auto refuses = [&](auto change, const std::string& message) {
    text_options options = small_options();
    change(options);
    CHECK_THROWS_WITH(teller.write(options), Catch::Matchers::Contains(message));
  };
  refuses([](text_options& o) { o.length = 0; }, "length is 0, allowed are 1 to ");
  refuses([](text_options& o) { o.length = 512; }, "length is 512, allowed are 1 to 508");
  refuses([](text_options& o) { o.num_training = -1; }, "num_training is -1, allowed are 0 to ");
  refuses([](text_options& o) { o.num_held_out = -1; }, "num_held_out is -1, allowed are 0 to ");
  refuses([](text_options& o) { o.name = ""; }, "name is '', allowed are letters and digits");
  refuses([](text_options& o) { o.new_name = "a b"; }, "name is 'a b', allowed are letters and digits");
  refuses([](text_options& o) { o.new_name = "Lily"; }, "new_name is 'Lily', allowed is any other");
  refuses([](text_options& o) { o.name = "Quetzalcoatl"; },
          "name is 'Quetzalcoatl', length is 32: of 896 stories that the model wrote, only 0 are");
}

TEST_CASE("choose_batch: each epoch takes every sequence once", "[finetune]") {
  for (const index_t count : {1, 2, 7, 64, 128}) {
    for (const index_t batch : {1, 3, 8, 200}) {
      std::vector<index_t> stream;
      for (index_t step = 0; static_cast<index_t>(stream.size()) < 4 * count; ++step) {
        const auto chosen = choose_batch(count, batch, 5, step);
        CHECK(static_cast<index_t>(chosen.size()) == batch);
        stream.insert(stream.end(), chosen.begin(), chosen.end());
      }
      for (index_t epoch = 0; epoch < 4; ++epoch) {
        const auto begin = stream.begin() + epoch * count;
        std::vector<index_t> sorted(begin, begin + count);
        std::sort(sorted.begin(), sorted.end());
        for (index_t i = 0; i < count; ++i) CHECK(sorted[static_cast<std::size_t>(i)] == i);
      }
    }
  }
}

TEST_CASE("choose_batch: orders differ between epochs and seeds, and return", "[finetune]") {
  const auto epoch = [](std::uint64_t seed, index_t step) { return choose_batch(64, 64, seed, step); };
  const std::set<std::vector<index_t>> different{epoch(1, 0), epoch(1, 1), epoch(1, 2), epoch(2, 0),
                                                 epoch(2, 1)};
  CHECK(different.size() == 5);
  CHECK(epoch(1, 1) == epoch(1, 1));
  CHECK(epoch(1, index_t{1} << 40) == epoch(1, index_t{1} << 40));
}

TEST_CASE("choose_batch: every order is as likely as any other", "[finetune]") {
  std::map<std::vector<index_t>, int> counts;
  constexpr int num_epochs = 6000;
  for (index_t step = 0; step < num_epochs; ++step) ++counts[choose_batch(3, 3, 11, step)];
  CHECK(counts.size() == 6);
  // Expected are 1000 each with a standard deviation of 29: five of them.
  for (const auto& [order, count] : counts) CHECK(std::abs(count - num_epochs / 6) < 145);
}

TEST_CASE("choose_batch: arguments out of range are refused", "[finetune]") {
  using Catch::Matchers::Contains;
  CHECK_THROWS_WITH(choose_batch(0, 1, 1, 0), Contains("num_sequences is 0, allowed are 1 and above"));
  CHECK_THROWS_WITH(choose_batch(1, 0, 1, 0), Contains("batch_size is 0, allowed are 1 and above"));
  CHECK_THROWS_WITH(choose_batch(1, 1, 1, -1), Contains("step is -1, allowed are 0 to "));
  CHECK_THROWS_WITH(choose_batch(1, 4, 1, index_t{1} << 62), Contains("allowed are 0 to "));
}
