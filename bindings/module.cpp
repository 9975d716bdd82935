// The index of the extension: every file of bindings adds its part here.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "core/memory.h"
#include "core/thread_pool.h"
#include "kernels/isa/table.h"
#include "kernels/pieces/products.h"
#include "linalg.h"
#include "machine.h"
#include "model.h"
#include "ops.h"
#include "optim.h"
#include "rounding.h"
#include "samples.h"
#include "trace/guards.h"

namespace py = pybind11;

PYBIND11_MODULE(_core, m) {
  using namespace loopos;
  m.doc() = "The C++ core of LoopOS.";
  num_threads();  // a bad LOOPOS_NUM_THREADS, LOOPOS_ISA or LOOPOS_PRODUCTS is refused at import, not in the middle of a run
  kernels::active_isa();
  kernels::check_wanted_products();

  m.def(
      "set_num_threads",
      [](const py::object& n) {
        const Index count = bind::whole("set_num_threads", "n", n);
        const py::gil_scoped_release unlocked;
        set_num_threads(count);
      },
      py::arg("n"), "Sets the number of threads (1 to 1024). Results have the same bits for any number.");
  m.def("get_num_threads", &num_threads, "The number of threads in use.");
  m.def(
      "isa", [] { return kernels::isa_name(kernels::active_isa()); },
      "The instruction set in use: baseline, avx2 or avx512 (LOOPOS_ISA forces one).");
  m.def(
      "available_isas",
      [] {
        std::vector<std::string> names;
        for (const auto isa : {kernels::Isa::baseline, kernels::Isa::avx2, kernels::Isa::avx512})
          if (kernels::supported(isa)) names.emplace_back(kernels::isa_name(isa));
        return names;
      },
      "The instruction sets that this build and this processor both have.");
  m.def(
      "products",
      [](const std::string& precision) {
        return kernels::products_of(choice("precision", precision, kPrecisions).value);
      },
      py::arg("precision"),
      "What float32 products of a precision are computed with here: fma, tiles NAME or emulated NAME.");
  m.def(
      "products_info",
      [] {
        py::dict info;
        info["chosen"] = kernels::products_name(kernels::products());
        info["why"] = kernels::why_no_tiles();
        return info;
      },
      "chosen: tiles, emulated or fma (LOOPOS_PRODUCTS forces one); why: a sentence where tiles are not used, else "
      "empty.");
  m.def(
      "build_info",
      [] {
        py::dict info;
        info["compiler"] = "g++-compatible " __VERSION__;
        info["build_type"] = LOOPOS_BUILD_TYPE;
        info["eigen"] = LOOPOS_EIGEN_VERSION;
        info["pybind11"] = std::to_string(PYBIND11_VERSION_MAJOR) + "." + std::to_string(PYBIND11_VERSION_MINOR);
        return info;
      },
      "How the extension was compiled.");
  m.def(
      "raised_flags",
      [] {
        const int raised = FpScope::take();
        py::dict flags;
        flags["invalid"] = (raised & FE_INVALID) != 0;
        flags["divide"] = (raised & FE_DIVBYZERO) != 0;
        flags["overflow"] = (raised & FE_OVERFLOW) != 0;
        return flags;
      },
      "Floating-point exceptions raised by computations of this Python thread, workers included, since the last call.");
  m.def("available_bytes", &available_bytes,
        "Memory this process can still get: free memory, control group and address space limits.");
  m.def(
      "guard_counts",
      [] {
        py::dict counts;
        for (const auto& [name, count] : guard_counts()) counts[py::str(name)] = count;
        return counts;
      },
      "How often each operation's guard has decided a row since import or reset_guard_counts(): fully masked rows; for "
      "layer_norm_eps and rms_norm_eps, rows whose variance is below eps.");
  m.def("reset_guard_counts", &reset_guard_counts, "Sets every guard count to zero.");

  py::module_ ops = m.def_submodule("ops", "Operations, forward and backward.");
  bind::bind_add(ops);
  bind::bind_softmax(ops);
  bind::bind_attention(ops);
  bind::bind_cross_entropy(ops);
  bind::bind_activation(ops);
  bind::bind_modulate(ops);
  bind::bind_dropout(ops);
  bind::bind_linear(ops);
  bind::bind_low_rank(ops);
  bind::bind_dora(ops);
  bind::bind_stored(ops);
  bind::bind_pictures(ops);
  bind::bind_norm(ops);
  bind::bind_global_norm(ops);

  py::module_ losses = m.def_submodule("losses", "Losses of a student against its teacher.");
  bind::bind_losses(losses);

  py::module_ linalg = m.def_submodule("linalg", "Complex Hermitian algebra, forward and backward.");
  bind::bind_linalg(linalg);

  bind::bind_machine(m);
  bind::bind_model(m);
  bind::bind_optim(m);
  bind::bind_rounding(m);
  bind::bind_samples(m);
}
