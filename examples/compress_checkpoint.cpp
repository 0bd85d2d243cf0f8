// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Compresses the linear layers of a whole checkpoint, one matrix at a time; --help tells the rest.
#include <common/output.hpp>
#include <common/program.hpp>
#include <compress_checkpoint/arguments.hpp>
#include <compress_checkpoint/assemble.hpp>
#include <compress_checkpoint/bar.hpp>
#include <compress_checkpoint/gguf_output.hpp>
#include <compress_checkpoint/layer.hpp>
#include <compress_checkpoint/output_format.hpp>
#include <compress_checkpoint/page.hpp>
#include <compress_checkpoint/processes.hpp>
#include <compress_checkpoint/publisher.hpp>
#include <compress_checkpoint/report.hpp>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using qlr::status_code;

constexpr const char* report_name = "compression_report.json";
constexpr const char* page_name = "compression_report.html";

/// The input folder is never written, so the output must not be it or lie in it.
void require_apart(const arguments& args) {
  const fs::path input = fs::weakly_canonical(args.input);
  const fs::path output = fs::weakly_canonical(args.output);
  const auto [end, ignored] = std::mismatch(input.begin(), input.end(), output.begin(), output.end());
  qlr::require(end != input.end(), status_code::invalid_argument, "OUTPUT_DIR is '", args.output,
               "', it must not be the input or lie in it");
  std::error_code status;
  const bool is_folder = fs::is_directory(output, status);
  qlr::require(is_folder || !fs::exists(output, status), status_code::invalid_argument, "OUTPUT_DIR is '",
               args.output, "', which is not a folder");
  qlr::require(args.resume || !is_folder || fs::is_empty(output, status), status_code::invalid_argument,
               "OUTPUT_DIR is '", args.output, "', which is not empty; --resume continues an earlier run");
}

/// Whether an earlier run has finished all; a run with other options is refused.
bool is_complete(const journal& work, const arguments& args, const ordered_json& settings) {
  const fs::path path = fs::path(args.output) / report_name;
  std::error_code status;
  if (work.exists() || !fs::exists(path, status)) return false;
  require_same_settings(path.string(), settings);
  return true;
}

/// Begins a run, or goes on with one that had the same settings.
void prepare(const journal& work, const ordered_json& settings) {
  if (work.exists()) {
    work.require_same(settings);
  } else {
    work.begin(settings);
  }
}

/// What this process has to do: the costliest first, each to the process with the least so far.
std::vector<const layer_task*> share_of(const selection& chosen, const journal& work, const processes& all) {
  std::vector<const layer_task*> tasks;
  for (const layer_task& task : chosen.layers) {
    if (!work.is_done(task.name)) tasks.push_back(&task);
  }
  std::ranges::stable_sort(tasks, std::ranges::greater{},
                           [](const auto* task) { return estimated_cost(*task); });
  std::vector<double> loads(static_cast<std::size_t>(all.size()));
  std::vector<const layer_task*> mine;
  for (const layer_task* task : tasks) {
    const auto least = std::ranges::min_element(loads);
    *least += estimated_cost(*task);
    if (least - loads.begin() == all.rank()) mine.push_back(task);
  }
  return mine;
}

/// What all processes read alike before they share the work.
struct opened_input {
  explicit opened_input(const arguments& args)
      : folder(args.input), chosen(select_tensors(folder, args)), settings(settings_of(folder, args)) {
    if (args.store == "gguf") llama = open_llama(folder, args);
  }
  qlr::io::checkpoint_folder folder;
  selection chosen;
  ordered_json settings;
  std::optional<qlr::io::gguf_llama> llama; // for GGUF files
};

/// Writes a compressed tensor to the work folder; returns the names of its files.
std::vector<std::string> write_parts(const opened_input& input, const layer_task& task,
                                     const qlr::decomposition& parts, const arguments& args,
                                     const journal& work) {
  if (input.llama) return write_gguf_parts(*input.llama, task, parts, work);
  std::vector<std::string> files;
  for (const part& stored : make_parts(args.store, task, parts)) {
    const char* const kind = stored.kind == part_kind::adapter ? ".adapter" : ".base";
    files.push_back(qlr::sentence(task.index, kind, ".safetensors"));
    std::vector<qlr::io::tensor_entry> entries;
    for (const qlr::io::owned_tensor& tensor : stored.tensors) entries.push_back(tensor.entry());
    qlr::io::write_safetensors(work.path_of(files.back()), entries, stored.metadata);
  }
  return files;
}

/// Compresses one tensor, writes its files and notes them.
///
/// @throws qlr::error with the name of the tensor
void compress_one(const opened_input& input, const layer_task& task, const arguments& args,
                  const journal& work, int process, const qlr::executor& run) {
  try {
    const compressed_layer layer = compress_layer(input.folder, task, args, run);
    work.note_tensor(process, task.name, write_parts(input, task, layer.parts, args, work), layer.report);
  } catch (const qlr::error& failure) {
    qlr::fail(failure.code(), "tensor '", task.name, "': ", failure.what());
  }
}

void compress_share(const opened_input& input, const std::vector<const layer_task*>& tasks,
                    const arguments& args, const journal& work, const processes& all,
                    const qlr::executor& run) {
  bar shown(!args.quiet && all.is_first(), tasks);
  for (const layer_task* task : tasks) {
    shown.begin(*task);
    compress_one(input, *task, args, work, all.rank(), run);
    shown.end(*task);
  }
}

qlr::index_t bytes_below(const std::string& folder) {
  qlr::index_t sum = 0;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    const bool is_weights =
        (entry.path().extension() == ".safetensors" || entry.path().extension() == ".gguf");
    const bool is_work = entry.path().parent_path().filename() == ".compress_checkpoint";
    if (is_weights && !is_work) sum += static_cast<qlr::index_t>(entry.file_size());
  }
  return sum;
}

void write_reports(const arguments& args, const journal& work, const ordered_json& report) {
  const std::string text = report.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  const publisher out(work, args, 0);
  out.write_small(page_name, report_page(report));
  out.write_small(report_name, text); // last: it says that all is there
  if (!args.quiet) print_summary(report);
  if (!args.json.empty()) write_text(args.json, text);
}

/// Compresses what is not done yet and joins the files.
void work_on(const opened_input& input, const arguments& args, journal& work, const processes& all) {
  const auto start = std::chrono::steady_clock::now();
  all.together([&] {
    if (all.is_first()) prepare(work, input.settings);
  });
  all.together([&] { work.read(true); });
  qlr::thread_pool pool(args.threads);
  const std::vector<const layer_task*> tasks = share_of(input.chosen, work, all);
  all.together([&] { compress_share(input, tasks, args, work, all, qlr::executor(pool)); });
  all.together([&] { work.read(false); });
  assemble(input.folder, input.chosen, args, work, all);
  all.together([&] {
    if (!all.is_first()) return;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    write_reports(args, work,
                  make_report(input.folder, input.chosen, args, work, all.size(), pool.num_threads(), seconds,
                              bytes_below(args.output)));
    work.finish();
  });
}

void run(const arguments& args, const processes& all) {
  std::optional<opened_input> input;
  bool is_finished = false;
  journal work(args.output);
  all.together([&] {
    check_calibration_path(args);
    input.emplace(args);
    if (args.list) return;
    require_apart(args);
    is_finished = is_complete(work, args, input->settings);
  });
  if (args.list) {
    if (all.is_first()) print_selection(input->chosen);
  } else if (!is_finished) {
    work_on(*input, args, work, all);
  } else if (all.is_first()) {
    work.finish();
    if (!args.quiet) std::printf("'%s' is complete\n", printable(args.output).c_str());
  }
}

} // namespace

int main(int argc, char** argv) {
  std::optional<arguments> args;
  const int status = run_program("compress_checkpoint", [&] { args = parse_arguments(argc, argv); });
  if (status != EXIT_SUCCESS) return status;
  const processes all(argc, argv);
  const auto body = [&] { run(*args, all); };
  return all.is_first() ? run_program("compress_checkpoint", body) : run_silently(body);
}
