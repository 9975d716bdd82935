// loopos.ops: attention.
#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <limits>

#include "findings.h"
#include "ops.h"
#include "ops/attention.h"
#include "ops/attention_trace.h"

namespace loopos::bind {
namespace {

constexpr Index kLastStart = Index{1} << 62;  // start + T stays within 64 bits

AttentionShape check_shapes(const char* f, const Shape& q, const Shape& k, const Shape& v) {
  require(k[0] == q[0] && v[0] == q[0], f, ": q, k and v must share the batch, got shapes ", text(q), ", ", text(k),
          ", ", text(v));
  require(k[1] == v[1] && k[2] == v[2], f, ": k and v must share heads and keys, got shapes ", text(k), " and ",
          text(v));
  require(k[3] == q[3], f, ": q and k must share the head width, got shapes ", text(q), " and ", text(k));
  require(q[3] > 0, f, ": the head width of q must be at least 1, got shape ", text(q));
  require(k[1] > 0 ? q[1] % k[1] == 0 : q[1] == 0, f,
          ": the heads of q must be a multiple of the heads of k and v, got ", q[1], " and ", k[1]);
  return {q[0], q[1], k[1], q[2], k[2], q[3], v[3]};
}

/// What a caller says of who sees what, beside q, k and v.
struct Arguments {
  bool causal;
  py::object mask, scale, window, prefix, start, begins;
  std::string precision = "float32";
};

Visibility visibility_of(const char* f, const AttentionShape& s, const Arguments& given) {
  Visibility v;
  v.causal = given.causal;
  v.start = whole(f, "start", given.start);
  v.prefix = whole(f, "prefix", given.prefix);
  require(v.start >= 0 && v.start <= kLastStart, f,
          ": start must be from 0 to 2**62 (the position of the first query), ", "got ", v.start);
  require(v.prefix >= 0 && v.prefix <= s.keys, f, ": prefix must be from 0 to the number of keys, ", s.keys, ", got ",
          v.prefix);
  require(v.causal || v.prefix == 0, f, ": prefix is of causal attention, got prefix=", v.prefix,
          " with causal=False, where every query sees every key anyway; pass causal=True or leave prefix out");
  if (given.window.is_none()) return v;
  v.window = whole(f, "window", given.window);
  require(v.window >= 1, f, ": window must be at least 1 (a query sees itself) or None, got ", v.window);
  require(v.causal, f, ": window is of causal attention, got window=", v.window,
          " with causal=False; pass causal=True, or a mask for a window to both sides");
  return v;
}

/// What options point into.
struct Owners {
  py::array mask;  // broadcast
  Array<std::int64_t> begins;
};

const Index* begins_of(const char* f, const AttentionShape& s, const Visibility& v, const py::object& given,
                       Owners& owners) {
  if (given.is_none()) return nullptr;
  owners.begins = integers(f, "begins", given);
  const Shape expected = {s.batch, s.queries};
  require(owners.begins.shape == expected, f, ": begins must have shape (B, T) = ", text(expected), ", got ",
          text(owners.begins.shape));
  require(v.causal && v.prefix == 0, f,
          ": begins is of causal attention without a prefix, got causal=", v.causal ? "True" : "False",
          " and prefix=", v.prefix);
  const Index* begins = owners.begins.data;
  for (Index at = 0; at < owners.begins.size(); ++at) {
    const Index b = at / s.queries, t = at % s.queries;
    require(begins[at] >= 0, f, ": begins must not be negative, got ", begins[at], " at [", b, ", ", t, "]");
    require(t == 0 || begins[at] >= begins[at - 1], f, ": begins must never fall along a row, got ", begins[at],
            " after ", begins[at - 1], " at [", b, ", ", t, "]");
  }
  return begins;
}

/// Options from Python; `owners` keep alive what they point into.
AttentionOptions options_of(const char* f, const AttentionShape& s, const Arguments& given, Owners& owners) {
  const py::object &mask = given.mask, &scale = given.scale;
  AttentionOptions options;
  options.visibility = visibility_of(f, s, given);
  options.precision = precision_from(f, given.precision);
  options.begins = begins_of(f, s, options.visibility, given.begins, owners);
  options.scale = scale.is_none() ? 1 / std::sqrt(static_cast<double>(s.width)) : scalar(f, "scale", scale);
  require(std::isfinite(options.scale), f, ": scale must be a finite number, got ", options.scale);
  if (mask.is_none()) return options;
  if (!py::isinstance<py::array_t<bool>>(mask) || is_masked(mask))
    throw py::type_error(cat(f, ": mask must be a numpy array of dtype bool (True = may attend) or None"));
  const Shape full = {s.batch, s.heads, s.queries, s.keys};
  const Shape got(py::array(mask).shape(), py::array(mask).shape() + py::array(mask).ndim());
  bool fits = got.size() <= 4;
  for (std::size_t i = 1; fits && i <= got.size(); ++i)
    fits = got[got.size() - i] == 1 || got[got.size() - i] == full[4 - i];
  require(fits, f, ": mask must be broadcastable to (B, H, T, S) = ", text(full), ", got shape ", text(got));
  py::array& owner = owners.mask;
  owner = py::module_::import("numpy").attr("broadcast_to")(mask, py::make_tuple(full[0], full[1], full[2], full[3]));
  options.mask = {static_cast<const bool*>(owner.data()), owner.strides(0), owner.strides(1), owner.strides(2),
                  owner.strides(3)};
  return options;
}

template <class T>
Heads<const T> heads(const Array<T>& x) {
  return {x.data, contiguous_heads(x.shape[1], x.shape[2], x.shape[3])};
}

template <class T>
Heads<const T> view(const Heads<T>& x) {
  return {x.data, x.strides};
}

template <class T>
Heads<T> heads(py::array_t<T>& x) {
  return {x.mutable_data(), contiguous_heads(x.shape(1), x.shape(2), x.shape(3))};
}

py::tuple attention(const py::object& q, const py::object& k, const py::object& v, bool causal, const py::object& mask,
                    const py::object& scale, const py::object& window, const py::object& prefix,
                    const py::object& start, const py::object& begins, const std::string& precision) {
  const char* f = "attention";
  return by_dtype(f, "q", q, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto qa = input<T>(f, "q", q, 4), ka = input<T>(f, "k", k, 4), va = input<T>(f, "v", v, 4);
    const AttentionShape shape = check_shapes(f, qa.shape, ka.shape, va.shape);
    Owners owners;
    const AttentionOptions options =
        options_of(f, shape, {causal, mask, scale, window, prefix, start, begins, precision}, owners);
    auto y = output<T>({shape.batch, shape.heads, shape.queries, shape.value_width});
    auto lse = output<T>({shape.batch, shape.heads, shape.queries});
    const auto out = heads(y);
    T* lse_out = lse.mutable_data();
    {
      const Computing computing;
      loopos::attention_forward<T>(heads(qa), heads(ka), heads(va), shape, options, out, lse_out);
    }
    return py::make_tuple(y, lse);
  });
}

py::tuple attention_backward(const py::object& dy, const py::object& q, const py::object& k, const py::object& v,
                             const py::object& y, const py::object& lse, bool causal, const py::object& mask,
                             const py::object& scale, const py::object& window, const py::object& prefix,
                             const py::object& start, const py::object& begins, const std::string& precision) {
  const char* f = "attention_backward";
  return by_dtype(f, "q", q, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto qa = input<T>(f, "q", q, 4), ka = input<T>(f, "k", k, 4), va = input<T>(f, "v", v, 4);
    const AttentionShape shape = check_shapes(f, qa.shape, ka.shape, va.shape);
    const Shape out_shape = {shape.batch, shape.heads, shape.queries, shape.value_width};
    const auto dya = input<T>(f, "dy", dy, out_shape), ya = input<T>(f, "y", y, out_shape);
    const auto lsea = input<T>(f, "lse", lse, Shape{shape.batch, shape.heads, shape.queries});
    Owners owners;
    const AttentionOptions options =
        options_of(f, shape, {causal, mask, scale, window, prefix, start, begins, precision}, owners);
    auto dq = output<T>(qa.shape), dk = output<T>(ka.shape), dv = output<T>(va.shape);
    const auto dq_out = heads(dq), dk_out = heads(dk), dv_out = heads(dv);
    {
      const Computing computing;
      loopos::attention_backward<T>(heads(dya), heads(qa), heads(ka), heads(va), heads(ya), lsea.data, shape, options,
                                    dq_out, dk_out, dv_out);
    }
    return py::make_tuple(dq, dk, dv);
  });
}

/// The operation under a probe, for tests. plant: None, or (tensor, index) of a number that becomes NaN.
py::dict traced_attention(const py::object& dy, const py::object& q, const py::object& k, const py::object& v,
                          bool causal, const py::object& mask, const py::object& scale, const py::object& window,
                          const py::object& prefix, const py::object& start, const py::object& begins, double dropout,
                          std::uint64_t seed, const py::object& plant) {
  const char* f = "_traced_attention";
  return by_dtype(f, "q", q, [&](auto t) -> py::dict {
    using T = decltype(t);
    using E = AttentionElement;
    const auto qa = input<T>(f, "q", q, 4), ka = input<T>(f, "k", k, 4), va = input<T>(f, "v", v, 4);
    const AttentionShape shape = check_shapes(f, qa.shape, ka.shape, va.shape);
    const auto dya = input<T>(f, "dy", dy, Shape{shape.batch, shape.heads, shape.queries, shape.value_width});
    Owners owners;
    AttentionOptions options = options_of(f, shape, {causal, mask, scale, window, prefix, start, begins}, owners);
    options.dropout = dropout;
    options.seed = seed;
    auto scores = output<T>({shape.batch, shape.heads, shape.queries, shape.keys});
    std::fill(scores.mutable_data(), scores.mutable_data() + scores.size(), T(0));
    Probe probe({}, true, 8, [&](const Frame& frame, const void* x, bool, Index first, Index count) {
      if (frame.tensor == "scores") std::copy_n(static_cast<const T*>(x), count, scores.mutable_data() + first);
    });
    auto y = output<T>(dya.shape), dq = output<T>(qa.shape), dk = output<T>(ka.shape), dv = output<T>(va.shape);
    auto lse = output<T>({shape.batch, shape.heads, shape.queries});
    AttentionOperands<T> operands{heads(qa), heads(ka), heads(va), {}, {}, nullptr};
    const auto see = [&](const char* phase, const char* name, E::Tensor tensor, py::array_t<T>& x) {
      if (!plant.is_none() && plant.attr("__getitem__")(0).equal(py::str(name))) {
        const auto at = plant.attr("__getitem__")(1).cast<std::array<Index, 4>>();
        x.mutable_at(at[0], at[1], at[2], at[3]) = std::numeric_limits<T>::quiet_NaN();
      }
      const T* data = x.data();
      probe.see(phase, -1, "attention", name, data, {x.shape(0), x.shape(1), x.shape(2), x.shape(3)}, [&](Operands& o) {
        const auto& n = o.index.n;
        attention_operands<T>(operands, shape, options, {tensor, n[0], n[1], n[2], n[3]}, o);
      });
    };
    see_attention_scores<T>(heads(qa), heads(ka), shape, options, probe, -1, "scores");
    attention_forward<T>(heads(qa), heads(ka), heads(va), shape, options, heads(y), lse.mutable_data());
    see("forward", "y", E::y, y);
    operands = {heads(qa), heads(ka), heads(va), view(heads(y)), heads(dya), lse.data()};
    loopos::attention_backward<T>(heads(dya), heads(qa), heads(ka), heads(va), operands.y, lse.data(), shape, options,
                                  heads(dq), heads(dk), heads(dv));
    see("backward", "dq", E::dq, dq);
    see("backward", "dk", E::dk, dk);
    see("backward", "dv", E::dv, dv);
    py::dict result;
    for (const auto& [name, x] : {std::pair{"scores", scores}, {"y", y}, {"dq", dq}, {"dk", dk}, {"dv", dv}})
      result[name] = x;
    result["scores_finite"] = attention_scores_finite<T>(heads(qa), heads(ka), shape, options);
    result["birth"] = py::none();
    if (!probe.birth().found) return result;
    py::dict birth = birth_to_dict(probe.birth());
    birth["dtype"] = dtype_name<T>();
    result["birth"] = birth;
    return result;
  });
}

}  // namespace

void bind_attention(py::module_& ops) {
  using py::arg;
  ops.def("attention", &attention, arg("q"), arg("k"), arg("v"), py::kw_only(), arg("causal") = false,
          arg("mask") = py::none(), arg("scale") = py::none(), arg("window") = py::none(), arg("prefix") = 0,
          arg("start") = 0, arg("begins") = py::none(), arg("precision") = "float32",
          R"(Scaled dot-product attention: y = softmax(scale q kᵀ) v.

q: (B, H, T, D), k: (B, Hkv, S, D), v: (B, Hkv, S, Dv), one dtype; H a multiple of Hkv (grouped heads: head h reads h // (H / Hkv)).
Keys and values may come from the queries' own sequence, from a cache or from another source (cross-attention): S need not be T.
causal: query t, at position p = start + t, sees keys 0..p (aligned top-left also when T != S); False: all of them.
window: of those, the last `window` alone, max(0, p - window + 1)..p, as sliding_window of transformers' Mistral and Gemma; causal only.
prefix: keys 0..prefix - 1 are seen from every position, inside the window or not (prefix language models); causal only.
start: how many keys come before the first query's own, such as those of a key/value cache.
begins: None, or int (B, T) that never falls along a row: query t of row b sees no key before begins[b, t], as where several documents
share a row and see themselves alone; causal only, without a prefix. Time is then O(sum of the documents' squared lengths).
mask: bool, broadcastable to (B, H, T, S), True = may attend: hides more, shows nothing that causal, window, prefix and begins hide.
scale: defaults to 1 / sqrt(D). Returns y (B, H, T, Dv) and lse (B, H, T) = log sum exp of the visible scores. A row that sees no key
gives y = 0 and lse = -inf and is counted (guard_counts()["attention"]). Scores are held for one tile of queries at a time, over the
keys that the tile sees: time is O(T window), and there is never a (T, S) matrix. precision: of the two products, as of matmul.

ValueError: a window below 1, a prefix beyond S, begins that fall, any of them without causal, a negative start, shapes that do not fit.)");
  ops.def("attention_backward", &attention_backward, arg("dy"), arg("q"), arg("k"), arg("v"), arg("y"), arg("lse"),
          py::kw_only(), arg("causal") = false, arg("mask") = py::none(), arg("scale") = py::none(),
          arg("window") = py::none(), arg("prefix") = 0, arg("start") = 0, arg("begins") = py::none(),
          arg("precision") = "float32",
          "Gradients (dq, dk, dv) of attention; y and lse are what it returned for the same arguments.");
  ops.def("_traced_attention", &traced_attention, arg("dy"), arg("q"), arg("k"), arg("v"), py::kw_only(),
          arg("causal") = false, arg("mask") = py::none(), arg("scale") = py::none(), arg("window") = py::none(),
          arg("prefix") = 0, arg("start") = 0, arg("begins") = py::none(), arg("dropout") = 0.0, arg("seed") = 0,
          arg("plant") = py::none());
}

}  // namespace loopos::bind
