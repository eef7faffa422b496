"""Two stages over your own passages, offline: python examples/quickstart.py"""

from biorerank_plugins import BioReranker, Passage, PassageIndex, TwoStageSearch

passages = [
    Passage("a", "Metformin lowers hepatic glucose production and is the first drug given in type 2 diabetes."),
    Passage("b", "Vitamin B12 should be measured from time to time in patients who have taken metformin for years."),
    Passage("c", "Long-term metformin treatment is associated with vitamin B12 deficiency and peripheral neuropathy."),
    Passage("d", "Vitamin B12 deficiency causes megaloblastic anaemia.", metadata={"year": 2011}),
]
search = TwoStageSearch(PassageIndex.build(passages), BioReranker())
for ranked in search.search("Can metformin cause a lack of vitamin B12?", top_k=3):
    print(f"{ranked.rank}. {ranked.score:.3f}  [{ranked.passage.id}] {ranked.passage.text}")
