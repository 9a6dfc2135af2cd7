// Where the boxes of a flow go: each box is laid out by itself and is then as large as what it holds. Within one,
// what edges join is a column, each below the last that leads to it; columns stand side by side.

const BESIDE = 24; // px between two boxes of a row
const BELOW = 40; // and from one layer to the next: room for an arrow
const PAD = 18;
const WIDEST = 1150; // columns that are wider together go on in another row

// Ids of one box as columns. An edge comes behind those that lead to where it begins.
function columns(ids, edges) {
	const rank = new Map(ids.map((id) => [id, 0]));
	const column = new Map(ids.map((id) => [id, id]));
	for (const {from, to} of edges) {
		rank.set(to, Math.max(rank.get(to), rank.get(from) + 1));
		column.set(to, column.get(from));
	}
	return [...Map.groupBy(ids, (id) => column.get(id)).values()].map((all) => all.sort((a, b) => rank.get(a) - rank.get(b)));
}

const total = (sizes, gap) => sizes.reduce((sum, each) => sum + each, 0) + gap * Math.max(sizes.length - 1, 0);
const across = (row) => total(row.map((each) => each.width), BESIDE);
const most = (sizes) => Math.max(0, ...sizes);

// `measure(node)` is how large a node without others in it is, `title(node)` how large the title of one with others.
// Gives {width, height, at: {id: {x, y, width, height}}, lines: [{edge, x, from, to}]}; x and y are of the middle.
export function layout({nodes, edges}, measure, title) {
	const known = new Map(nodes.map((each) => [each.id, each]));
	const held = Map.groupBy(nodes, (node) => node.parent);
	const within = Map.groupBy(edges, (edge) => known.get(edge.from).parent); // both ends are in one box
	const at = {};
	const parts = new Map(); // box: [{id, x, y}], from its upper left corner
	const fill = (box) => {
		const stacks = columns(held.get(box).map((each) => each.id), within.get(box) ?? []).map((ids) => {
			for (const id of ids) {
				if (!held.has(id)) at[id] = measure(known.get(id));
				else {
					const [head, inner] = [title(known.get(id)), fill(id)];
					const width = Math.max(inner.width, head.width - 2 * PAD);
					for (const each of parts.get(id)) { each.x += PAD + (width - inner.width) / 2; each.y += head.height + PAD / 2; }
					at[id] = {width: width + 2 * PAD, height: inner.height + head.height + PAD * 1.5};
				}
			}
			return {ids, width: most(ids.map((id) => at[id].width)), height: total(ids.map((id) => at[id].height), BELOW)};
		});
		const rows = [];
		for (const stack of stacks) {
			const row = rows[rows.length - 1];
			if (row && across([...row, stack]) <= WIDEST) row.push(stack);
			else rows.push([stack]);
		}
		const placed = [];
		const width = most(rows.map(across));
		let y = 0;
		for (const row of rows) {
			let x = (width - across(row)) / 2;
			for (const stack of row) {
				let down = y;
				for (const id of stack.ids) {
					placed.push({id, x: x + (stack.width - at[id].width) / 2, y: down});
					down += at[id].height + BELOW;
				}
				x += stack.width + BESIDE;
			}
			y += most(row.map((each) => each.height)) + BESIDE;
		}
		parts.set(box, placed);
		return {width, height: Math.max(y - BESIDE, 0)};
	};
	const {width, height} = fill(null);
	const move = (box, left, top) => parts.get(box).forEach(({id, x, y}) => {
		if (held.has(id)) move(id, left + x, top + y);
		at[id].x = left + x + at[id].width / 2;
		at[id].y = top + y + at[id].height / 2;
	});
	move(null, PAD / 2, PAD / 2);
	const lines = edges.map((edge) => {
		const [from, to] = [at[edge.from], at[edge.to]];
		return {edge, x: from.x, from: from.y + from.height / 2, to: to.y - to.height / 2};
	});
	return {width: width + PAD, height: height + PAD, at, lines};
}
