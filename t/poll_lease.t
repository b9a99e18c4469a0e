#!/usr/bin/perl

# Not under valgrind: it measures time
#
# An attempt is asked for by one at a time, whatever happens meanwhile:
# webhooks that say nothing, a pause, more providers than can be served.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 16;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(many post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $user = customer($pg, 1000);
my $slow = 8;

sub nginx {
    my $base = $provider->url;
    my $slow_ones = join "\n", map { <<"EOT" } 1 .. $slow;
    vidgen_provider slow-$_ {
        submit  { url $base/slow-$_; job_id /request_id; }
        poll    { url $base/slow/\$vidgen_provider_job_id;
                  status /status; video_url /url; error /error; }
    }
EOT
    return VidgenTest::Nginx->new(
        vars => { DB => $pg->edge_conninfo, BASE => $base,
            SLOW => $slow_ones },
        env => { HOOK_SECRET => $provider->secret }, config => <<'EOT')->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%";
    vidgen_monitor  poll=200ms timeout=5s interval=1h;

    vidgen_provider told {
        submit  { url %%BASE%%/told; body /webhook_url $vidgen_webhook_url;
                  job_id /request_id; }
        poll    { url %%BASE%%/requests/$vidgen_provider_job_id;
                  status /status; video_url /output/video_url; }
        webhook { signature hmac-sha256 header=X-Signature;
                  secret env:HOOK_SECRET; job_id /request_id;
                  status /status; video_url /output/video_url; }
    }
    vidgen_provider busy {
        submit  { url %%BASE%%/busy; job_id /request_id; }
        poll    { url %%BASE%%/busy/$vidgen_provider_job_id;
                  status /status; video_url /url; error /error; }
    }
%%SLOW%%

    server {
        listen 127.0.0.1:%%PORT%%;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/hook;
        location = /generate-video    { vidgen_generate; }
        location = /hook              { vidgen_webhook; }
    }
}
EOT
}

my $nginx = nginx();

sub generate {
    my ($name, $n) = @_;
    my $body = qq({"user_id":"$user","model_id":"m","prompt":"p",)
        . qq("provider":"$name"});
    return grep { $_->{status} == 200 } many($n, 'POST',
        $nginx->url('/generate-video'),
        { 'Content-Type' => 'application/json' }, $body);
}

sub polls {
    my ($pattern) = @_;
    return grep { $_->{method} eq 'GET' && $_->{uri} =~ $pattern }
        @{ $provider->requests };
}


# webhooks without a verdict, while a poll is under way

$provider->on(qr{GET /requests/}, wait => 1,
    body => { status => 'processing' });
is(scalar generate('told', 1), 1, 'a job');
my ($request) = grep { $_->{uri} eq '/told' } @{ $provider->requests };
my ($hook) = $request->{body} =~ /"webhook_url":"([^"]+)"/;
my $attempt = "FROM vidgen.attempts WHERE provider_job_id = '$request->{id}'";

sub webhook {
    my ($n) = @_;
    my ($headers, $body) = $provider->signed_webhook(id => $request->{id},
        more => { output => {}, n => $n });
    return post($hook, $body, $headers)->{status};
}

is(webhook(0), 200, 'a webhook without a verdict');
ok((wait_for { polls(qr{^/requests/}) == 1 }), 'it is asked for');
for (1 .. 4) {
    webhook($_);
    my $at = time;
    wait_for { time > $at } 3;
}
is(scalar polls(qr{^/requests/}), 1, 'more of them: not by another poll');
is($pg->value("SELECT due <= now() AND poll_lease > now() $attempt"), 't',
    'it is due when that has ended');
$provider->on(qr{GET /requests/}, body => { status => 'completed',
    output => { video_url => 'https://cdn.test/v' } });
$provider->release;
ok((wait_for { $pg->value("SELECT state $attempt") eq 'completed' }),
    'and asked for again then');
is(scalar polls(qr{^/requests/}), 2, 'once');


# a provider that wants a pause: what is leased and has not been asked for is
# given back until then

$provider->on(qr{GET /busy/}, status => 429,
    headers => { 'Retry-After' => 8 }, delay => 0.5);
is(scalar generate('busy', 24), 24, 'jobs of a busy provider');
ok((wait_for { $pg->value(q{SELECT count(*) FROM vidgen.attempts
    WHERE provider = 'busy' AND polls > 0 AND poll_lease IS NULL
    AND due > now() + interval '1 s'}) == 24 }), 'all are given back');
is($pg->value(q{SELECT count(*) FROM vidgen.attempts WHERE provider = 'busy'
    AND due > now() + interval '12 s'}), 0, 'until the pause ends');
my $asked = polls(qr{^/busy/});
cmp_ok($asked, '<', 24, 'not all had been asked for');

# another one, at once, knows nothing of the pause

$provider->on(qr{GET /busy/}, body => { status => 'processing' },
    delay => 0.9);
my $second = nginx();
ok((wait_for { $pg->value(q{SELECT count(*) FROM vidgen.attempts
    WHERE provider = 'busy' AND progress = 'processing'}) == 24 }),
    'two edges ask afterwards');
my %times;
push @{ $times{ $_->{uri} } }, $_->{time} for polls(qr{^/busy/});
my $close = 0;
for my $times (values %times) {
    $close += grep { $times->[$_] - $times->[$_ - 1] < 0.9 } 1 .. $#$times;
}
is($close, 0, 'no job at the same time');
$second->stop;


# more slow providers than can be served at a time

$provider->on(qr{GET /busy/}, body => { status => 'failed' });
$provider->on(qr{GET /slow/}, body => { status => 'completed',
    url => 'https://cdn.test/v' }, delay => 1);
generate("slow-$_", 16) for 1 .. $slow;
my ($ended, $most) = (0, 0);
wait_for {
    my $leased;
    ($leased, $ended) = @{ $pg->query(q{SELECT count(*) FILTER (WHERE
        state = 'accepted' AND poll_lease > now()),
        count(*) FILTER (WHERE state = 'completed') FROM vidgen.attempts
        WHERE provider LIKE 'slow-%'})->[0] };
    $most = $leased if $leased > $most;
    $ended == 16 * $slow;
} 60;
is($ended, 16 * $slow, 'many slow providers: all end');
cmp_ok($most, '<=', 96, 'no more are leased than are asked for');

is_deeply([wrong_books($pg)], [], 'the books are right');
