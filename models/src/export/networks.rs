//! One function for each kind of network.

use hotad_engine::Result;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::params::{Params, State};

use super::colour::{Lab, ciede2000};
use super::graph::{Graph, GraphValue};
use super::layers::Writer;
use super::{Exported, not_plain};
use crate::autoencoder::TrainedAutoencoder;
use crate::autoencoders::network::Autoencoder;
use crate::color_unet::{MapScale, Recolouring};
use crate::features::{Embedding, Extractor, Source};
use crate::lea_net::Networks;
use crate::networks::trunk::Trunk;

/// The input of images.
fn images(graph: &Graph, spec: ImageSpec) -> GraphValue {
    graph.input("image", [spec.channels, spec.height, spec.width])
}

/// A trunk, its maps at some cuts.
pub fn trunk(name: &str, trunk: &Trunk, state: &State, spec: ImageSpec, cuts: &[usize]) -> Result<Exported> {
    let (graph, writer) = (Graph::default(), Writer::new(state)?);
    let maps = trunk.export(&writer, &images(&graph, spec).standardised(), cuts)?;
    let names = trunk.cuts();
    cuts.iter().zip(&maps).for_each(|(cut, map)| graph.output(&names[*cut], map));
    Ok(Exported { graph, holds: format!("feature maps of {name}"), left_out: "" })
}

/// The network that features of patches come from, its maps at the model's cuts.
pub fn features(method: &str, embedding: &Embedding, left_out: &'static str) -> Result<Exported> {
    let [part] = embedding.parts() else {
        return Err(not_plain(
            method,
            "its features come from several networks; export the models that it was made of",
        ));
    };
    let exported = match &part.source {
        Source::Backbone(backbone) => backbone.export(&part.cuts)?,
        Source::Encoder(autoencoder) => encoder(autoencoder, &part.cuts)?,
        Source::Member(member) => {
            let name = &member.name;
            return Err(not_plain(
                method,
                &format!("its features come from the model {name}; export the file of that one"),
            ));
        }
    };
    Ok(Exported { left_out, ..exported })
}

/// The encoder of a patch autoencoder, its maps at some cuts.
fn encoder(trained: &TrainedAutoencoder, cuts: &[usize]) -> Result<Exported> {
    let (graph, writer) = (Graph::default(), Writer::new(&trained.params.values()?)?);
    let layers = cuts.last().map_or(0, |c| c + 1);
    let maps = trained.network.export_encoder(&writer, &images(&graph, trained.network.image()), layers)?;
    let names = trained.cuts();
    cuts.iter().for_each(|cut| graph.output(&names[*cut], &maps[*cut]));
    Ok(Exported { graph, holds: "feature maps of a patch autoencoder".into(), left_out: "" })
}

/// A patch autoencoder: its latent map, and the reconstruction from it.
pub fn patch_autoencoder(trained: &TrainedAutoencoder, left_out: &'static str) -> Result<Exported> {
    let (graph, writer) = (Graph::default(), Writer::new(&trained.params.values()?)?);
    let (network, layers) = (&trained.network, trained.network.widths().len());
    let image = images(&graph, network.image());
    let latent = network.export_encoder(&writer, &image, layers)?.pop().unwrap_or(image);
    let made = network.export_decoder(&writer, &latent)?;
    graph.output("reconstruction", &made);
    graph.output("latent", &latent);
    Ok(Exported { graph, holds: "reconstructions and latent maps of a patch autoencoder".into(), left_out })
}

/// An autoencoder: the reconstruction, and the latent vector.
pub fn reconstruction(
    network: &Autoencoder,
    params: &Params,
    spec: ImageSpec,
    left_out: &'static str,
) -> Result<Exported> {
    let (graph, writer) = (Graph::default(), Writer::new(&params.values()?)?);
    let latent = network.export_encoder(&writer, &images(&graph, spec))?;
    graph.output("reconstruction", &network.export_decoder(&writer, &latent)?);
    graph.output("latent", &latent);
    Ok(Exported { graph, holds: "reconstructions and latent vectors of an autoencoder".into(), left_out })
}

/// Predicted colours of images, and the anomaly map that they give.
fn recoloured(network: &Recolouring, image: &GraphValue) -> Result<(GraphValue, GraphValue)> {
    let (writer, own) = (Writer::new(network.state())?, Lab::of(image));
    let colours = network.unet().export(&writer, &(&own.l / 100.0))?;
    let channel = |c: usize| 255.0 * colours.channels(c, c + 1) - 128.0;
    let predicted = Lab { l: own.l.clone(), a: channel(0), b: channel(1) };
    let map = ciede2000(&own, &predicted) / network.unit();
    let map = match network.map_scale() {
        MapScale::Fixed => map,
        MapScale::Image => {
            let largest = map.reduced("ReduceMax", &[2, 3]);
            // A perfect match has no largest value to divide by.
            &map / largest.select("Greater", 0.0, &largest, &largest.number(1.0))
        }
    };
    Ok((colours, map))
}

/// The colour network: anomaly map, and predicted colours ((a + 128) / 255, (b + 128) / 255).
pub fn recolouring(network: &Recolouring, left_out: &'static str) -> Result<Exported> {
    let graph = Graph::default();
    let (colours, map) = recoloured(network, &images(&graph, network.image()))?;
    graph.output("map", &map);
    graph.output("colour", &colours);
    Ok(Exported { graph, holds: "anomaly maps and predicted colours of a colour network".into(), left_out })
}

/// All networks of LEA-Net: probability and anomaly map.
pub fn lea_net(networks: &Networks, colour: &Recolouring, detection: &State, attention: &State) -> Result<Exported> {
    let graph = Graph::default();
    let image = images(&graph, colour.image());
    let (_, map) = recoloured(colour, &image)?;
    let seen = map.at_least(0.0).at_most(1.0);
    let logit = networks.export(&Writer::new(detection)?, &Writer::new(attention)?, &image, &seen)?;
    graph.output_numbers("score", &logit.apply("Sigmoid"));
    graph.output("map", &map);
    Ok(Exported { graph, holds: "scores and anomaly maps of LEA-Net".into(), left_out: "" })
}
