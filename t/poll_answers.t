#!/usr/bin/perl

# Not under valgrind: it measures time
#
# What a poll's answer means: words, two steps, refusals, pauses; and that it
# is asked again less and less often.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 37;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $user = customer($pg, 1000);
my %seen;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, BASE => $provider->url },
    env  => { API_KEY => 'poll-api-key' },
    config => <<'EOT')->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%";
    vidgen_monitor  poll=200ms timeout=2s interval=1h unknown=1s expire=3s;

    vidgen_provider one {
        base    %%BASE%%;
        api_key env:API_KEY;
        header  Authorization "Key $vidgen_api_key";
        submit  { url $vidgen_base/one; job_id /request_id; }
        poll    { url $vidgen_base/requests/$vidgen_provider_job_id;
                  query model $vidgen_model;
                  header X-Attempt $vidgen_attempt_id;
                  accept /code 0; accept /code; retry /busy;
                  status /status done=completed; video_url /url /urls/0;
                  error /error; }
    }
    vidgen_provider two {
        base    %%BASE%%;
        submit  { url $vidgen_base/two; job_id /request_id;
                  keep status_url /status_url;
                  keep response_url /response_url; }
        poll    { url $vidgen_kept_status_url;
                  status /status IN_QUEUE=queued IN_PROGRESS=processing
                         COMPLETED=completed;
                  video_url /video/url; error /detail;
                  then $vidgen_kept_response_url failed=422 failed=5xx; }
    }
    vidgen_provider three {
        base    %%BASE%%;
        submit  { url $vidgen_base/three; job_id /request_id; }
        poll    { url $vidgen_base/status; method POST;
                  body /ids/0 $vidgen_provider_job_id;
                  status /status; video_url /file; error /error;
                  keep file /file_id;
                  then $vidgen_base/files/$vidgen_kept_file; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        location = /generate-video    { vidgen_generate; }
    }
}
EOT

sub generate {
    my ($name) = @_;
    my $answer = post($nginx->url('/generate-video'), { user_id => $user,
        model_id => 'm/1', prompt => 'p', provider => $name });
    my ($request) = grep { $_->{uri} eq "/$name" }
        reverse @{ $provider->requests };
    return ($answer->{json}{job_id}, $request->{id});
}

sub job {
    my ($job) = @_;
    my ($status, $url, $error) = @{ $pg->query("SELECT status, video_url,
        error_message FROM video_jobs WHERE id = '$job'")->[0] };
    return join ' ', $status, $url // $error // ();
}

sub polls {
    my ($pattern) = @_;
    return grep { $_->{uri} =~ $pattern } @{ $provider->requests };
}

# A job of provider one whose polls get these answers, one after the other.
sub answers {
    my (@answers) = @_;
    $provider->script(qr{GET /requests/}, map { ref $_->{body}
        ? { %$_, body => { code => 0, %{ $_->{body} } } } : $_ } @answers);
    my ($job, $id) = generate('one');
    return ($job, qr{^/requests/\Q$id\E\?});
}

my @done = ({ body => { status => 'done', url => 'https://cdn.test/1' } });


# words and fields

my ($job, $uri) = answers({ body => { status => 'queued' } },
    { body => { status => 'processing' } }, @done);
ok((wait_for { job($job) =~ /^processing/ }), 'processing');
ok((wait_for { job($job) eq 'completed https://cdn.test/1' }), 'completed');
my @polls = polls($uri);
is(scalar @polls, 3, 'asked three times');
is($polls[0]{headers}{authorization}, 'Key poll-api-key', 'with the key');
like($polls[0]{uri}, qr/\?model=m%2F1$/, 'with the query');
like($polls[0]{headers}{'x-attempt'}, qr/^[0-9a-f-]{36}$/, 'and the header');

($job) = answers({ body => { status => 'done',
    urls => ['https://cdn.test/2'] } });
ok((wait_for { job($job) eq 'completed https://cdn.test/2' }),
    'another place of the URL');

($job) = answers({ body => { status => 'failed', error => 'no GPU' } });
ok((wait_for { job($job) eq 'failed no GPU' }), 'failed');

($job, $uri) = answers({ body => { status => 'pondering' } }, @done);
ok((wait_for { job($job) =~ /^completed/ }), 'an unknown word is no verdict');
is(scalar polls($uri), 2, 'it is asked again');

# answers that say nothing: the next one counts

for (
    ['no JSON',           { body => 'oops' }],
    ['no object',         { body => '[]' }],
    ['nothing',           { status => 204, body => '' }],
    ['done without URL',  { body => { status => 'done' } }],
    ['accept fails',      { body => { code => 7, status => 'failed' } }],
    ['retry holds',       { body => { busy => 1, status => 'failed' } }],
    ['HTTP 404',             { status => 404 }],
    ['HTTP 401',             { status => 401 }],
    ['HTTP 500',             { status => 500 }],
    ['a reset',           { drop => 'after' }],
    ['half an answer',    { drop => 'middle',
                            body => '{"code":0,"status":"failed"}' }],
    ['no answer in time', { hang => 1 }],
    ['too long an answer', { body => '{"status":"failed","code":0,"x":"'
                            . ('y' x 300_000) . '"}' }],
) {
    my ($what, $answer) = @$_;
    ($job) = answers($answer, @done);
    ok((wait_for { job($job) =~ /^(?:completed|failed)/ }), $what)
        && job($job) =~ /^completed/ or fail("$what: " . job($job));
}

# a pause that the provider asks for

($job, $uri) = answers({ status => 429, headers => { 'Retry-After' => 2 } },
    @done);
ok((wait_for { job($job) =~ /^completed/ }), 'a 429');
@polls = polls($uri);
cmp_ok($polls[1]{time} - $polls[0]{time}, '>=', 1.9, 'it was respected');

($job) = answers({ status => 503, headers =>
    { 'Retry-After' => '9223372036854775807' } }, @done);
ok((wait_for { $pg->value("SELECT due - now() BETWEEN interval '9 min'
    AND interval '10 min' FROM vidgen.attempts WHERE job_id = '$job'") eq 't'
    }), 'ten minutes at most');


# two steps

sub two {
    my ($second, $status) = @_;
    $provider->on(qr{GET /requests/[^/]+/status$},
        body => { status => $status // 'COMPLETED' });
    $provider->on(qr{GET /requests/[^/]+$}, %$second);
    return generate('two');
}

($job) = two({ body => { video => { url => 'https://cdn.test/two' } } });
ok((wait_for { job($job) eq 'completed https://cdn.test/two' }), 'two steps');

($job) = two({ status => 422, body => { detail => 'nsfw' } });
ok((wait_for { job($job) eq 'failed nsfw' }),
    'the second says that it failed');

my $id;
($job, $id) = two({ status => 404 });
ok((wait_for { polls(qr{^/requests/\Q$id\E$}) >= 2 }),
    'or nothing: both are asked again');
is(job($job), 'queued', 'no verdict');
$provider->on(qr{GET /requests/\Q$id\E$},
    body => { video => { url => 'https://cdn.test/at-last' } });
ok((wait_for { job($job) eq 'completed https://cdn.test/at-last' }),
    'until there is one');

$provider->on(qr{POST /status}, body => { status => 'completed',
    file_id => 'f/../1' });
$provider->on(qr{GET /files/}, body => { file => 'https://cdn.test/three' });
($job, $id) = generate('three');
ok((wait_for { job($job) eq 'completed https://cdn.test/three' }),
    'a POST, and what the first step keeps for the second');
my ($first) = polls(qr{^/status$});
is($first->{body}, qq({"ids":["$id"]}), 'its body');
is((polls(qr{^/files/}))[0]{uri}, '/files/f%2F..%2F1',
    'which cannot lead elsewhere');


# what never ends is given up

$provider->on(qr{GET /requests/}, body => { code => 0, status => 'queued' });
my @pauses;
for (1 .. 3) {                      # once more where the machine was busy
    ($job, $id) = generate('one');
    wait_for { job($job) =~ /^failed/ };
    @polls = polls(qr{^/requests/\Q$id\E\?});
    @pauses = map { $polls[$_]{time} - $polls[$_ - 1]{time} } 1 .. $#polls;
    last if $pauses[2] > $pauses[0];
}
like(job($job), qr/^failed/, 'what never ends is given up');
cmp_ok($pauses[2], '>', $pauses[0], 'asked less and less often');
is_deeply([wrong_books($pg)], [], 'the books are right');
