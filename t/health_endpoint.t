#!/usr/bin/perl

# vidgen_health: what it answers, and to whom.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 24;

use VidgenTest::Http qw(get request);
use VidgenTest::Nginx;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $provider = VidgenTest::Provider->new;
$provider->on(qr{/bad}, status => 503, delay => 0.05);

my $nginx = VidgenTest::Nginx->new(
    vars => { BASE => $provider->url }, config => <<'EOT')->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_monitor interval=10m fails=1;

    vidgen_provider zeta {
        base   %%BASE%%;
        submit { url $vidgen_base/jobs; job_id /id; }
        probe  { url $vidgen_base/bad; }
    }
    vidgen_provider alpha.ai {
        base   %%BASE%%;
        submit { url $vidgen_base/jobs; job_id /id; }
        probe  { url $vidgen_base/good; }
    }
    vidgen_provider quiet {
        base   %%BASE%%;
        submit { url $vidgen_base/jobs; job_id /id; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        location = /health { vidgen_health; }
        location = /own {
            vidgen_health;
            error_page 404 = /page;
        }
        location = /page { return 200 page; }
    }
}
EOT

my $url = $nginx->url('/health');
my $answer;
ok(wait_for { $answer = get($url);
    2 == grep { $_->{last_check} } @{ $answer->{json}{providers} } },
    'both were probed');

is($answer->{status}, 200, 'status');
is($answer->{headers}{'content-type'}, 'application/json', 'type');
is($answer->{headers}{'cache-control'}, 'no-cache', 'to be asked again');

my ($zeta, $alpha, $quiet) = @{ $answer->{json}{providers} };
is_deeply([$zeta->{name}, $alpha->{name}, $quiet->{name}],
    [qw(zeta alpha.ai quiet)], 'in the order of definition');

my $time = qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;
is($zeta->{status}, 'down', 'what is down is down');
is($zeta->{consecutive_failures}, 1, 'its failures');
is($zeta->{reason}, 'http_503', 'its reason');
cmp_ok($zeta->{response_time_ms}, '>=', 50, 'its response time');
like($zeta->{last_check}, $time, 'its last check');
like($zeta->{since}, $time, 'since when');

is_deeply([@$alpha{qw(status consecutive_failures reason since)}],
    ['healthy', 0, undef, undef], 'what never changed');
is_deeply($quiet, { name => 'quiet', status => 'healthy',
    response_time_ms => undef, last_check => undef,
    consecutive_failures => 0, reason => undef, since => undef },
    'what was never checked');

# one provider

is_deeply(get("$url?provider=alpha.ai")->{json}, $alpha, 'one of them');
is_deeply(get("$url?provider=alpha%2Eai")->{json}, $alpha, 'escaped');
$answer = get("$url?provider=nobody");
is($answer->{status}, 404, 'an unknown one');
is($answer->{json}{code}, 'unknown_provider', 'its code');
is(get($nginx->url('/own?provider=nobody'))->{body}, 'page',
    "the user's error page wins");

# unchanged

my $etag = get($url)->{headers}{etag};
like($etag, qr/^"[0-9a-f]{32}"$/, 'a tag');
$answer = request('GET', $url, { 'If-None-Match' => $etag });
is($answer->{status}, 304, 'unchanged');
is($answer->{body}, '', 'nothing is sent again');

# methods

$answer = request('HEAD', $url);
is_deeply([@$answer{qw(status body)}, $answer->{headers}{etag}],
    [200, '', $etag], 'HEAD');
$answer = request('POST', $url, {}, 'x');
is_deeply([$answer->{status}, $answer->{json}{code}], [405, 'wrong_method'],
    'POST');
is($answer->{headers}{allow}, 'GET, HEAD', 'Allow');
