// Generation with a cache of keys and values, as Python drives it.
#pragma once

#include "model_inputs.h"

namespace loopos::bind {

/// The methods of a model that generate. Class has gpt(), compute() and serialise(), see model.cpp.
template <class T, class Class>
void bind_generation(py::class_<Class>& c) {
  using py::arg;
  c.def(
       "start_generation",
       [](Class& self, Index batch, Index length, const py::object& padding, const py::object& images) {
         auto& gpt = self.gpt();
         require(batch >= 0 && length >= 0 && length <= gpt.config().context_length, "generate: batch ", batch,
                 " and length ", length, " do not fit the context length ", gpt.config().context_length);
         const auto before = checked_padding("generate", padding, batch, length);
         const auto& config = gpt.config();
         const auto seen = pictures_of<T>("generate", images, -1, config);
         const Index pictures = config.pictures ? seen.shape[0] : 0;
         require(!config.pictures || (!before.data && pictures > 0 && batch % pictures == 0), "generate: ", batch,
                 " rows need a picture each or for every few alike, and none to fill them up, got ", pictures,
                 " pictures");
         return self.compute([&] {
           gpt.start_generation(batch, length, before.data, seen.data, pictures);
           return gpt.generations();
         });
       },
       arg("batch"), arg("length"), arg("padding") = py::none(), arg("images") = py::none(),
       "Empties the key/value cache and makes room for `length` positions; the first padding[b] of row b will be seen "
       "by none. images: of a captioner; each is for batch / len(images) neighbouring rows. Returns the number of this "
       "generation.")
      .def(
          "extend_generation",
          [](Class& self, Index length) {
            const auto lock = self.serialise();
            auto& gpt = self.gpt();
            require(length >= gpt.cache().used && length <= gpt.config().context_length,
                    "extend_generation: length must be from ", gpt.cache().used, " to ", gpt.config().context_length,
                    ", got ", length);
            gpt.extend_generation(length);
          },
          arg("length"), "More room, with what the cache holds.")
      .def(
          "next_logits",
          [](Class& self, const py::object& ids) -> py::array {
            auto& gpt = self.gpt();
            const auto in = checked_ids("Model.generate", ids, gpt.config());
            auto logits = output<T>({in.shape[0], gpt.config().outputs()});
            T* out = logits.mutable_data();
            self.compute([&] {
              const auto& cache = gpt.cache();
              require(in.shape[0] == cache.batch && cache.length - cache.used >= in.shape[1], "generate: ids of shape ",
                      text(in.shape), " do not continue the generation that was started");
              gpt.next_logits(in.shape[1], in.data, out);
            });
            return std::move(logits);
          },
          arg("ids"), "Logits (B, V) after the last of further ids (B, T).")
      .def(
          "rewind",
          [](Class& self, Index used) {
            const auto lock = self.serialise();
            auto& gpt = self.gpt();
            require(used >= 0 && used <= gpt.cache().used, "rewind: the cache holds ", gpt.cache().used,
                    " positions; expected from 0 to as many, got ", used);
            gpt.rewind(used);
          },
          arg("used"), "The cache forgets all but its first `used` positions.")
      .def(
          "reorder",
          [](Class& self, const py::object& rows) {
            const auto from = integers("reorder", "rows", rows);
            const auto lock = self.serialise();
            auto& gpt = self.gpt();
            const Index batch = gpt.cache().batch;
            require(from.shape == Shape{batch}, "reorder: rows must have shape (B,) = ", text(Shape{batch}), ", got ",
                    text(from.shape));
            for (Index b = 0; b < batch; ++b)
              if (from.data[b] < 0 || from.data[b] >= batch)
                throw std::out_of_range(
                    cat("reorder: rows must be from 0 to ", batch - 1, ", got ", from.data[b], " at position ", b));
            gpt.reorder({from.data, from.data + batch});
          },
          arg("rows"), "Row b of the cache goes on from what row rows[b] has seen, as in beam search.")
      .def(
          "generation",
          [](Class& self) {
            const auto lock = self.serialise();
            const auto& gpt = self.gpt();
            return py::make_tuple(gpt.generations(), gpt.cache().used, gpt.cache().length);
          },
          "(number of the generation, positions that the cache holds, positions there is room for).");
}

}  // namespace loopos::bind
