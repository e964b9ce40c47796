/* What a search finds first: titles that hold the whole query; records of decisions and of changes
   last. The numbers are those of Sphinx, whose scorer this one replaces. */
var Scorer = {
  score: ([docname, , , , score, , kind]) =>
    score
    + (kind === "title" ? 20 : 0)
    - (/^(CHANGELOG|explanation\/decisions\/)/.test(docname) ? 10 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
