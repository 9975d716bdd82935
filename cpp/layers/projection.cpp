#include "layers/projection.h"

#include "layers/linear.h"

namespace loopos {

template <class T>
std::unique_ptr<Projection<T>> make_projection(ParameterSet<T>& set, Site site, const ProjectionConfig& config) {
  return std::make_unique<Linear<T>>(set, std::move(site), config);
}

template std::unique_ptr<Projection<float>> make_projection(ParameterSet<float>&, Site, const ProjectionConfig&);
template std::unique_ptr<Projection<double>> make_projection(ParameterSet<double>&, Site, const ProjectionConfig&);

}  // namespace loopos
