// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/processes.hpp>

#include <qlr/core/status.hpp>

#include <mpi.h>

#include <algorithm>
#include <cstddef>
#include <vector>

processes::processes(int& argc, char**& argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
}

processes::~processes() {
  MPI_Finalize();
}

void processes::agree(const std::string& complaint) const {
  constexpr std::size_t longest = 2000; // of a message, so that many fit
  const std::string text =
      complaint.empty() ? "" : qlr::sentence("process ", rank_, ": ", complaint.substr(0, longest));
  const int length = static_cast<int>(text.size());
  std::vector<int> lengths(static_cast<std::size_t>(size_));
  MPI_Allgather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, MPI_COMM_WORLD);
  std::vector<int> starts(lengths.size());
  int total = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    starts[i] = total;
    total += lengths[i];
  }
  if (total == 0) return;
  std::string all(static_cast<std::size_t>(total), '\0');
  MPI_Allgatherv(text.data(), length, MPI_CHAR, all.data(), lengths.data(), starts.data(), MPI_CHAR,
                 MPI_COMM_WORLD);
  std::string message;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    if (lengths[i] == 0) continue;
    if (!message.empty()) message += "; ";
    message += all.substr(static_cast<std::size_t>(starts[i]), static_cast<std::size_t>(lengths[i]));
  }
  qlr::fail(qlr::status_code::io_failure, message);
}
