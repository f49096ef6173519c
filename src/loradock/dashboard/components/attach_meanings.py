"""Explains the steps of an attach to people."""

from loradock.types.enums import AttachStep

MEANINGS = {
    AttachStep.AUTHORIZE: "the endpoint and the adapter are both yours",
    AttachStep.RESOLVE: "the name leads to this endpoint and this adapter",
    AttachStep.COMPATIBLE: "the base models match, and the endpoint takes adapters",
    AttachStep.FITS: "rank, number and memory are within the limits",
    AttachStep.STAGE: "the files are where the replicas read them",
    AttachStep.LOAD: "every ready replica holds it",
    AttachStep.PROBE: "one token through it, with finite values",
    AttachStep.ROUTE: "requests by its name reach it",
}
