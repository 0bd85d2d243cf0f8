// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <finetune/svg_reader.hpp>
#include <finetune_story/curves.hpp>
#include <support/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace {

using qlr::test::element;
using qlr::test::elements_of;

constexpr double no_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

std::vector<element> of_class(const std::vector<element>& all, const std::string& kind) {
  std::vector<element> result;
  for (const element& each : all) {
    const auto found = each.attributes.find("class");
    if (found != each.attributes.end() && found->second == kind) result.push_back(each);
  }
  return result;
}

struct place {
  double x = 0;
  double y = 0;
};

/// The absolute places of a path.
std::vector<place> places_of(const element& path) {
  const std::string& d = path.attributes.at("d");
  std::vector<place> result;
  for (std::size_t i = d.find_first_of("ML"); i != std::string::npos; i = d.find_first_of("ML", i + 1)) {
    const std::size_t space = d.find(' ', i);
    result.push_back({std::stod(d.substr(i + 1, space - i - 1)), std::stod(d.substr(space + 1))});
  }
  return result;
}

double number(const element& from, const char* key) {
  return std::stod(from.attributes.at(key));
}

/// Numbers along an axis and their places; those of the upright axis end at them.
std::vector<std::pair<double, double>> ticks_of(const std::vector<element>& all, bool is_upright) {
  std::vector<std::pair<double, double>> result;
  for (const element& each : all) {
    if (each.name != "text" || !each.attributes.contains("text-anchor")) continue;
    if (each.text.find_first_not_of("-.0123456789") != std::string::npos) continue;
    if ((each.attributes.at("text-anchor") == "end") != is_upright) continue;
    // The middle of a digit is four pixels above its foot.
    result.emplace_back(std::stod(each.text), is_upright ? number(each, "y") - 4 : number(each, "x"));
  }
  return result;
}

/// Where the numbers at an axis say that a value is.
double place_at(const std::vector<std::pair<double, double>>& ticks, double value) {
  const auto& [first, begin] = ticks.front();
  const auto& [last, end] = ticks.back();
  return begin + (value - first) / (last - first) * (end - begin);
}

std::string chart(const std::vector<curve>& curves) {
  return loss_chart("title", "step", "loss", curves);
}

curve falling(const std::string& name, double start) {
  curve result{.name = name};
  for (int step = 0; step <= 200; step += 10) {
    const double loss = 1 + start * std::exp(-step / 50.0);
    result.steps.push_back(step);
    result.mean.push_back(loss);
    result.low.push_back(loss - 0.1);
    result.high.push_back(loss + 0.2);
  }
  return result;
}

} // namespace

TEST_CASE("loss_chart: the file stands alone", "[finetune]") {
  const std::string drawing = chart({falling("one", 2), falling("two", 1)});
  const auto all = elements_of(drawing);
  const element& root = all.front();
  CHECK(root.name == "svg");
  CHECK(root.attributes.at("xmlns") == "http://www.w3.org/2000/svg");
  CHECK(root.attributes.at("viewBox") ==
        "0 0 " + root.attributes.at("width") + " " + root.attributes.at("height"));
  CHECK(drawing.substr(drawing.size() - 7) == "</svg>\n");
  const std::set<std::string> allowed{"svg", "style", "g", "path", "text"};
  for (const element& each : all) {
    CHECK(allowed.contains(each.name));
    CHECK(!each.attributes.contains("href"));
  }
  const std::string rest = drawing.substr(drawing.find("viewBox"));
  for (const char* const word : {"http", "url", "@import", "script"}) CHECK(rest.find(word) == rest.npos);
  const auto back = of_class(all, "back");
  REQUIRE(back.size() == 1);
  CHECK(back[0].attributes.at("d") == "M0 0h" + root.attributes.at("width") + "v" +
                                          root.attributes.at("height") + "h-" + root.attributes.at("width") +
                                          "z");
}

TEST_CASE("loss_chart: texts are shown whatever they hold", "[finetune]") {
  const std::string name = "</svg><script>&amp;\"'";
  curve some = falling(name, 1);
  const std::string drawing = loss_chart("a < b & \"c\"", "<step>", "loss & more", {some});
  const auto all = elements_of(drawing);
  CHECK(all.front().attributes.at("aria-label") == "a < b & \"c\"");
  CHECK(of_class(all, "title").at(0).text == "a < b & \"c\"");
  CHECK(of_class(all, "name").at(0).text == name);
  const auto is_shown = [&](const char* text) {
    return std::any_of(all.begin(), all.end(), [&](const element& each) { return each.text == text; });
  };
  CHECK(is_shown("<step>"));
  CHECK(is_shown("loss & more"));
  some.name = "a\x01\xff\nb";
  CHECK(of_class(elements_of(chart({some})), "name").at(0).text == "a\\x01\\xff\\x0ab");
  some.name = std::string(1000, 'x');
  CHECK(of_class(elements_of(chart({some})), "name").at(0).text == std::string(40, 'x') + "...");
  some.name.clear();
  for (int i = 0; i < 41; ++i) some.name += "\xc3\xa9";
  const std::string shown = of_class(elements_of(chart({some})), "name").at(0).text;
  CHECK(shown == some.name.substr(0, 80) + "..."); // forty characters of two bytes
}

TEST_CASE("loss_chart: lines and bands are where the axes say", "[finetune]") {
  const std::vector<curve> curves{falling("one", 2), falling("two", 1)};
  const auto all = elements_of(chart(curves));
  const auto x = ticks_of(all, false);
  const auto y = ticks_of(all, true);
  REQUIRE(x.size() >= 3);
  REQUIRE(y.size() >= 3);
  const auto lines = of_class(all, "line");
  const auto bands = of_class(all, "band");
  REQUIRE(lines.size() == 4); // two curves and their names
  REQUIRE(bands.size() == 2);
  const auto check = [&](const place& at, double step, double loss) {
    CHECK(std::abs(at.x - place_at(x, step)) < 0.11); // places are rounded to tenths
    CHECK(std::abs(at.y - place_at(y, loss)) < 0.11);
  };
  for (std::size_t c = 0; c < 2; ++c) {
    const auto line = places_of(lines[c]);
    const auto band = places_of(bands[c]);
    const std::size_t count = curves[c].steps.size();
    REQUIRE(line.size() == count);
    REQUIRE(band.size() == 2 * count);
    CHECK(lines[c].parent_stroke == bands[c].parent_stroke);
    for (std::size_t i = 0; i < count; ++i) {
      check(line[i], curves[c].steps[i], curves[c].mean[i]);
      check(band[i], curves[c].steps[i], curves[c].high[i]);
      check(band[2 * count - 1 - i], curves[c].steps[i], curves[c].low[i]);
    }
  }
}

TEST_CASE("loss_chart: only the axis of the steps begins at zero", "[finetune]") {
  const auto lowest = [](const std::vector<curve>& curves) {
    return ticks_of(elements_of(chart(curves)), true).front().first;
  };
  CHECK(lowest({falling("one", 2)}) == 0.5); // losses from 0.93 to 3.2
  CHECK(lowest({{"negative", {0, 1}, {-3, 2}, {}, {}}}) == -3);
  CHECK(lowest({{"equal", {0, 1}, {1.5, 1.5}, {}, {}}}) == 1.4);
  CHECK(ticks_of(elements_of(chart({{"late", {100, 200}, {2, 1}, {}, {}}})), false).front().first == 0);
}

TEST_CASE("loss_chart: curves differ in colour, dash and mark", "[finetune]") {
  std::vector<curve> curves;
  curves.reserve(30);
  for (int i = 0; i < 30; ++i) curves.push_back(falling("method " + std::to_string(i), 1 + 0.1 * i));
  const auto all = elements_of(chart(curves));
  const auto lines = of_class(all, "line");
  const auto marks = of_class(all, "mark");
  REQUIRE(lines.size() == 60);
  REQUIRE(marks.size() == 60);
  const auto shape_of = [](const element& path) { // that of the first mark
    const std::string& d = path.attributes.at("d");
    const std::size_t begin = d.find('m');
    return d.substr(begin, d.find('z') - begin);
  };
  std::set<std::string> colours;
  std::set<std::string> dashes;
  std::set<std::string> shapes;
  std::set<std::string> without_colour;
  for (std::size_t i = 0; i < 30; ++i) {
    const std::string dash = lines[i].attributes.at("stroke-dasharray");
    if (i < 5) colours.insert(lines[i].parent_stroke);
    if (i < 5) dashes.insert(dash);
    if (i < 5) shapes.insert(shape_of(marks[i]));
    without_colour.insert(dash + shape_of(marks[i]));
    // A name has what its curve has.
    CHECK(lines[i + 30].parent_stroke == lines[i].parent_stroke);
    CHECK(marks[i].parent_stroke == lines[i].parent_stroke);
    CHECK(lines[i + 30].attributes.at("stroke-dasharray") == dash);
    CHECK(shape_of(marks[i + 30]) == shape_of(marks[i]));
  }
  CHECK(colours.size() == 5);
  CHECK(dashes.size() == 5);
  CHECK(shapes.size() == 5);
  CHECK(without_colour.size() == 30);
}

TEST_CASE("loss_chart: names stand right of the curves and within the drawing", "[finetune]") {
  for (const std::size_t count : {std::size_t{1}, std::size_t{5}, std::size_t{40}}) {
    const std::vector<curve> curves(count, falling("a method of some length", 2));
    const auto all = elements_of(chart(curves));
    const auto lines = of_class(all, "line");
    double right = 0;
    for (std::size_t i = 0; i < count; ++i) {
      for (const place& at : places_of(lines[i])) right = std::max(right, at.x);
    }
    for (std::size_t i = count; i < 2 * count; ++i) CHECK(places_of(lines[i]).at(0).x > right + 10);
    double previous = 0;
    for (const element& name : of_class(all, "name")) {
      CHECK(number(name, "x") > right + 40);
      CHECK(number(name, "x") + 23 * 7.0 < number(all.front(), "width")); // seven pixels a letter
      CHECK(number(name, "y") > previous + 13);                           // the height of a letter
      CHECK(number(name, "y") < number(all.front(), "height") - 10);
      previous = number(name, "y");
    }
  }
}

TEST_CASE("loss_chart: a curve has a gap where a number is not finite", "[finetune]") {
  const std::vector<double> steps{0, 1, 2, 3, 4, 5};
  const std::vector<double> ones(6, 1.0);
  const auto num_parts = [](const std::string& drawing) {
    CHECK(drawing.find("nan") == drawing.npos);
    CHECK(drawing.find("inf") == drawing.npos);
    const std::string d = of_class(elements_of(drawing), "line").at(0).attributes.at("d");
    return std::count(d.begin(), d.end(), 'M');
  };
  CHECK(num_parts(chart({{"whole", steps, ones, ones, ones}})) == 1);
  for (const double bad : {no_number, infinity, -infinity, 1e300}) {
    std::vector<double> broken{1, 1, bad, 1, 1, 1};
    CHECK(num_parts(chart({{"mean", steps, broken, ones, ones}})) == 2);
    CHECK(num_parts(chart({{"low", steps, ones, broken, ones}})) == 2);
    CHECK(num_parts(chart({{"high", steps, ones, ones, broken}})) == 2);
    CHECK(num_parts(chart({{"step", {0, 1, bad, 3, 4, 5}, ones, ones, ones}})) == 2);
    CHECK(num_parts(chart({{"without a band", steps, broken, {}, {}}})) == 2);
  }
  // What is left between two gaps is a mark, wherever it is.
  const auto all = elements_of(chart({{"alone", {0, 1, 2}, {1.25, no_number, 1.5}, {}, {}}}));
  CHECK(of_class(all, "line").size() == 1); // that of the name
  REQUIRE(of_class(all, "mark").size() == 2);
  CHECK(places_of(of_class(all, "mark")[0]).size() == 2);
}

TEST_CASE("loss_chart: few points and extreme ones are drawn within the frame", "[finetune]") {
  const std::vector<std::vector<curve>> drawings{{},
                                                 {{"none", {}, {}, {}, {}}},
                                                 {{"one", {7}, {2}, {1.5}, {2.5}}},
                                                 {{"at the start", {0}, {0}, {}, {}}},
                                                 {{"all gaps", {0, 1}, {no_number, no_number}, {}, {}}},
                                                 {{"equal", {5, 5}, {1.5, 1.5}, {1.5, 1.5}, {1.5, 1.5}}},
                                                 {{"large", {0, 1e30}, {-1e30, 1e30}, {}, {}}},
                                                 {{"tiny", {0, 1e-320}, {5e-324, 1e-320}, {}, {}}},
                                                 {{"negative", {-5, -1}, {-2, -1}, {}, {}}}};
  for (const auto& curves : drawings) {
    INFO((curves.empty() ? "no curve" : curves[0].name));
    const std::string drawing = chart(curves);
    CHECK(drawing.find("nan") == drawing.npos);
    CHECK(drawing.find("inf") == drawing.npos);
    const auto all = elements_of(drawing);
    for (const element& each : all) {
      if (each.name != "path") continue;
      for (const place& at : places_of(each)) {
        CHECK((at.x >= 0 && at.x <= number(all.front(), "width")));
        CHECK((at.y >= 0 && at.y <= number(all.front(), "height")));
      }
    }
    CHECK(of_class(all, "name").size() == curves.size());
  }
  const auto one = elements_of(chart({{"one", {7}, {2}, {1.5}, {2.5}}}));
  CHECK(of_class(one, "mark").size() == 2);
  CHECK(places_of(of_class(one, "band").at(0)).size() == 2);
}

TEST_CASE("loss_chart: the same curves give the same bytes", "[finetune]") {
  CHECK(chart({falling("one", 2), falling("two", 1)}) == chart({falling("one", 2), falling("two", 1)}));
}

TEST_CASE("loss_chart: numbers that are not equally many are refused", "[finetune]") {
  using Catch::Matchers::Contains;
  CHECK_THROWS_WITH(chart({{"a", {0, 1}, {1}, {}, {}}}),
                    Contains("mean of curve 'a' has 1 numbers, allowed are 2, as steps has"));
  CHECK_THROWS_WITH(chart({{"a", {0, 1}, {1, 1}, {1}, {1, 1}}}), Contains("low of curve 'a' has 1 numbers"));
  CHECK_THROWS_WITH(chart({{"a", {0, 1}, {1, 1}, {1, 1}, {}}}), Contains("high of curve 'a' has 0 numbers"));
  CHECK_THROWS_WITH(chart({{"a", {0, 1}, {1, 1}, {}, {1, 1}}}), Contains("low of curve 'a' has 0 numbers"));
}
