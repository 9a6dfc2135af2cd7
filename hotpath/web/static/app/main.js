// The shell: which view, the header, keys, and what is said of the connection.
import {html, render, useEffect, useErrorBoundary, useState} from '../vendor/preact.js';
import {fromPath, go, useAddress} from './router.js';
import {startSocket} from './socket.js';
import {useStatus} from './data.js';
import {Dialog, Empty, Icon} from './parts.js';
import {Jobs} from './jobs.js';
import {Job} from './job.js';
import {Overview} from './overview.js';
import {Flows, Script, Scripts} from './scripts.js';
import {Workers} from './workers.js';
import {Group, Groups} from './groups.js';
import {Schedule, Schedules} from './schedules.js';
import {History} from './history.js';
import {Alerts} from './alerts.js';
import {Doctor} from './doctor.js';
import {Retention} from './retention.js';

const PLACES = [['/', 'Overview', 'o', Overview], ['/jobs', 'Jobs', 'j', Jobs], ['/flows', 'Flows', 'f', Flows], ['/scripts', 'Scripts', 's', Scripts], ['/schedules', 'Schedules', 'c', Schedules],
	['/workers', 'Workers', 'w', Workers], ['/groups', 'Groups', 'g', Groups], ['/history', 'History', 'h', History], ['/alerts', 'Alerts', 'a', Alerts], ['/retention', 'Retention', 'r', Retention], ['/doctor', 'Doctor', 'd', Doctor]];
const VIEWS = [
	...PLACES.map(([path, name, , view]) => [new RegExp(`^${path}$`), view, () => name, path]),
	[/^\/jobs\/([^/]+)$/, Job, (id) => `Job ${id.slice(-12)}`, '/jobs'],
	[/^\/runs\/([^/]+)$/, Job, (id) => `Run ${id.slice(-12)}`, '/flows'],
	[/^\/flows\/(.+)$/, Script, String, '/flows'],
	[/^\/scripts\/(.+)$/, Script, String, '/scripts'],
	[/^\/schedules\/([^/]+)$/, Schedule, (name) => `Schedule ${name}`, '/schedules'],
	[/^\/groups\/([^/]+)$/, Group, (name) => `Group ${name}`, '/groups'],
];
const KEYS = [
	['/', 'Search or filter what is on the screen'], ['j  k', 'Next, previous row'], ['Enter', 'Open the row'],
	...PLACES.map(([, name, key]) => [`g ${key}`, `Go to ${name}`]),
	['n  N', 'Next, previous match in a log'], ['t', 'Light or dark'], ['Esc', 'Close, or leave a field'], ['?', 'These keys'],
];
const SAID = {
	live: ['Live', 'Changes appear as they happen'],
	connecting: ['Connecting', 'The live connection is being made'],
	reconnecting: ['Reconnecting', 'The live connection was lost; it is being made again'],
	polling: ['Every 2 s', 'No live connection: the page asks every 2 seconds and keeps trying to connect'],
};

function Connection() {
	const status = useStatus();
	const [text, title] = SAID[status];
	return html`<span class=${`connection ${status}`} role="status" title=${title}><i aria-hidden></i>${text}</span>`;
}

const isDark = () => {
	const chosen = document.documentElement.dataset.theme;
	return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
};

function switchTheme() {
	const next = isDark() ? 'light' : 'dark';
	document.documentElement.dataset.theme = next;
	try { localStorage.setItem('theme', next); } catch { /* it holds until the page is left */ }
	dispatchEvent(new Event('theme'));
}

function step(by) {
	const rows = [...document.querySelectorAll('[data-row]')].filter((each) => each.offsetParent);
	if (!rows.length) return;
	const at = rows.findIndex((each) => each.contains(document.activeElement));
	const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by, 0), rows.length - 1)];
	(next.matches('a') ? next : next.querySelector('a') ?? next.querySelector('button'))?.focus();
	next.scrollIntoView({block: 'nearest'});
}

function useKeys(help) {
	useEffect(() => {
		let going = 0;
		const pressed = (event) => {
			if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
			const field = event.target.closest?.('input, textarea, select');
			if (field) {
				if (event.key === 'Escape') field.blur();
				return;
			}
			if (document.querySelector('dialog[open]')) return;
			const place = Date.now() - going < 1500 && PLACES.find(([, , key]) => key === event.key);
			going = 0;
			if (place) go(place[0]);
			else if (event.key === 'g') going = Date.now();
			else if (event.key === 'j') step(1);
			else if (event.key === 'k') step(-1);
			else if (event.key === 't') switchTheme();
			else if (event.key === '?') help();
			else if (event.key === '/') document.querySelector('[data-search]')?.focus();
			else return;
			event.preventDefault();
		};
		addEventListener('keydown', pressed);
		return () => removeEventListener('keydown', pressed);
	}, []);
}

function Guarded({children}) {
	const [error] = useErrorBoundary((fault) => console.error(fault));
	if (error) return html`<${Empty} title="This view broke">It is a fault of the page, not of your jobs: ${String(error)}. Reload to try again.<//>`;
	return children;
}

function Shell() {
	const {path, query} = useAddress();
	const [help, setHelp] = useState(false);
	useKeys(() => setHelp(true));
	const [, View, title, home, parts] = find(path);
	useEffect(() => { document.title = `${title(...parts)} · Hotpath`; }, [path]);
	return html`<a class="skip" href="#main">Skip to the content</a>
		<header class="top">
			<a class="logo" href="/"><b aria-hidden></b>Hotpath</a>
			<nav aria-label="Views">${PLACES.map(([to, name]) => html`<a key=${to} href=${to} aria-current=${to === home ? 'page' : undefined}>${name}</a>`)}</nav>
			<div class="tools"><${Connection} />
				<button class="plain" aria-label="Light or dark" title="Light or dark (t)" onClick=${switchTheme}><${Icon} of="theme" /></button>
				<button class="plain" aria-label="Keyboard" title="Keyboard (?)" onClick=${() => setHelp(true)}>?</button></div>
		</header>
		<main id="main" tabindex="-1" spellcheck=${false}><${Guarded} key=${path}><${View} key=${path} of=${parts} query=${query} path=${path} /><//></main>
		${help && html`<${Dialog} title="Keyboard" close=${() => setHelp(false)}><dl class="keys">${KEYS.map(([key, does]) => html`<div key=${key}><dt>${key.split(/ +/).map((one) => html`<kbd>${one}</kbd>`)}</dt><dd>${does}</dd></div>`)}</dl><p class="muted">Done here? <a href="/logout" data-plain>Log out</a>.</p><//>`}`;
}

const Nowhere = ({path}) => html`<${Empty} title="There is nothing here">No view has the address <code>${path}</code>. <a href="/jobs">All jobs</a> are a good place to go on from.<//>`;

function find(path) {
	for (const [shape, view, title, home] of VIEWS) {
		const match = shape.exec(path);
		if (match) return [shape, view, title, home, match.slice(1).map(fromPath)];
	}
	return [null, Nowhere, () => 'Not found', null, []];
}

startSocket();
const root = document.getElementById('app');
root.textContent = '';
render(html`<${Shell} />`, root);
