// One WebSocket for all that is live. It comes back by itself, each subscription from where it was; while it
// is away, views ask by HTTP every two seconds (data.js).

const PING = 20_000;
const SILENT = 10_000; // from a ping without an answer to giving the connection up
const LONGEST = 15_000;
const HOPELESS = 2; // failed tries after which the header stops promising a live view

const subscriptions = new Map();
const watchers = new Set();
let socket = null;
let status = 'connecting'; // connecting, live, reconnecting, polling
let failed = 0;
let serial = 0;
let retry = 0;
let ping = 0;
let silence = 0;

export const socketStatus = () => status;
export function onStatus(watcher) {
	watchers.add(watcher);
	return () => watchers.delete(watcher);
}

function become(next) {
	if (next === status) return;
	status = next;
	watchers.forEach((each) => each(next));
}

const send = (message) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));
const ask = (id, it) => send({op: 'subscribe', id, ...it.what(), channel: it.channel});

function connect() {
	clearTimeout(retry);
	const mine = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`);
	let opened = false;
	socket = mine;
	mine.onopen = () => {
		opened = true;
		failed = 0;
		become('live');
		subscriptions.forEach((it, id) => ask(id, it));
		ping = setInterval(() => {
			send({op: 'ping'});
			silence = setTimeout(() => mine.close(), SILENT);
		}, PING);
	};
	mine.onmessage = ({data}) => {
		clearTimeout(silence);
		for (const event of JSON.parse(data).events ?? []) {
			const it = subscriptions.get(event.id);
			if (!it) continue;
			if (event.type === 'resync') ask(event.id, it);
			it.heard(event);
		}
	};
	mine.onclose = () => {
		if (socket !== mine) return;
		socket = null;
		clearInterval(ping);
		clearTimeout(silence);
		failed += 1;
		become(failed > HOPELESS ? 'polling' : opened ? 'reconnecting' : status === 'connecting' ? 'connecting' : 'reconnecting');
		const pause = Math.min(500 * 2 ** Math.min(failed - 1, 10), LONGEST);
		retry = setTimeout(connect, pause * (0.7 + 0.6 * Math.random()));
	};
}

// `what()` gives the rest of the request at each (re)subscription, the position reached included.
export function subscribe(channel, what, heard) {
	const id = ++serial;
	const it = {channel, what, heard};
	subscriptions.set(id, it);
	if (!socket && !retry) connect();
	else ask(id, it);
	return () => {
		subscriptions.delete(id);
		send({op: 'unsubscribe', id});
	};
}

export function startSocket() {
	if (!socket) connect();
	const soon = () => { if (!socket) { failed = Math.min(failed, 1); connect(); } };
	addEventListener('online', soon);
	document.addEventListener('visibilitychange', () => document.hidden || soon());
}
