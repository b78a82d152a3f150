
'use strict';

// Filters, sorts and copies. The page is complete without it.

const rows = [...document.querySelectorAll('[data-row]')];
const folds = [...document.querySelectorAll('[data-group], .page')];
// Read before the buttons are added, whose labels are not to be found.
const texts = rows.map((row) =>
  `${row.closest('[data-group]').dataset.group} ${row.textContent}`
    .toLowerCase()
);

// Whether each was open before the user typed.
let open = null;

function filter(terms) {
  let matches = 0;
  rows.forEach((row, number) => {
    const match = terms.every((term) => texts[number].includes(term));
    row.hidden = !match;
    matches += match;
  });
  open ??= folds.map((fold) => fold.open);
  folds.forEach((fold, number) => {
    const matching = fold.querySelector('[data-row]:not([hidden])') !== null;
    fold.hidden = terms.length > 0 && !matching;
    fold.open = terms.length > 0 ? matching : open[number];
  });
  if (!terms.length) {
    open = null;
  }
  document.querySelector('#search output').textContent = terms.length
    ? `${matches.toLocaleString('en')} of ${rows.length.toLocaleString('en')} match`
    : '';
}

function sort(th) {
  const ascending = th.getAttribute('aria-sort') !== 'ascending';
  const tables = [...th.closest('[data-group]').querySelectorAll('table')];
  const sizes = tables.map((table) => table.tBodies.length);
  for (const table of tables) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head) => head.removeAttribute('aria-sort'));
    heads[th.cellIndex].setAttribute(
      'aria-sort', ascending ? 'ascending' : 'descending'
    );
  }
  const key = (body) => body.rows[0].cells[th.cellIndex].textContent.trim();
  const bodies = tables.flatMap((table) =>
    [...table.tBodies].map((body) => [key(body), body])
  );
  bodies.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  if (!ascending) {
    bodies.reverse();
  }
  // Over all pages.
  tables.forEach((table, number) => {
    table.append(...bodies.splice(0, sizes[number]).map(([, body]) => body));
  });
}

async function copy(code, button) {
  getSelection().selectAllChildren(code);
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = 'Copied';
  } catch {
    // Without HTTPS there is no clipboard; the user copies the selection.
    button.textContent = 'Selected';
  }
  setTimeout(() => { button.textContent = 'Copy'; }, 2000);
}

function button(text, action) {
  const made = document.createElement('button');
  made.type = 'button';
  made.textContent = text;
  made.addEventListener('click', () => action(made));
  return made;
}

for (const th of document.querySelectorAll('th')) {
  th.replaceChildren(button(th.textContent, () => sort(th)));
}
for (const code of document.querySelectorAll('.command code')) {
  code.after(button('Copy', (made) => copy(code, made)));
}

const search = document.querySelector('#search');
if (search) {
  search.hidden = false;
  search.addEventListener('submit', (event) => event.preventDefault());
  search.addEventListener('input', (event) =>
    filter(event.target.value.toLowerCase().split(/\s+/).filter(Boolean))
  );
}

// A browser does not print the content of closed details.
let closed = [];
addEventListener('beforeprint', () => {
  closed = [...document.querySelectorAll('details:not([open])')];
  for (const details of closed) {
    details.open = true;
  }
});
addEventListener('afterprint', () => {
  for (const details of closed) {
    details.open = false;
  }
});
