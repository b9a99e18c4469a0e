#!/usr/bin/perl

# error_page for what our locations answer: nginx's page wins, the page does
# not lead around a check, and what was refused is new when it comes again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 19;

use VidgenTest::Books qw(customer);
use VidgenTest::Http qw(get post request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, APP => $provider->url },
    env  => {
        FAL_BASE_URL       => $provider->url,
        FAL_API_KEY        => 'test-api-key',
        FAL_WEBHOOK_SECRET => $provider->secret,
    },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%";
    vidgen_monitor  off;
    include         %%PROVIDERS%%/fal.conf;

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/hook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        error_page 401      /page;
        error_page 404 =410 /page;
        error_page 400      = @named;
        error_page 405      https://example.com/;

        location = /page     { internal; return 200 "page for $status"; }
        location @named      { return 422 "named"; }
        location = /generate { vidgen_generate; }
        location = /hook     { vidgen_webhook; }
        location /jobs/      { vidgen_job; }

        location = /verify {
            vidgen_verify  fal.ai;
            proxy_pass     %%APP%%;
        }

        # everything here is verified, the page of a refusal too

        location /inside/ {
            error_page              401 /inside/page;
            error_page              503 /inside/sorry;
            proxy_intercept_errors  on;
            vidgen_verify           fal.ai;
            proxy_pass              %%APP%%;
        }

        location /deep/ {
            error_page             401 /deep/page;
            recursive_error_pages  on;
            vidgen_verify          fal.ai;
            proxy_pass             %%APP%%;
        }
    }
}
EOT

my $user = customer($pg, 10);
$pg->query("INSERT INTO models (id, credits_per_generation)
    VALUES ('m', 1)");
my %order = (user_id => $user, model_id => 'm', prompt => 'p');

is(post($nginx->url('/generate'), \%order)->{status}, 200, 'a generation');
my $id = $provider->requests->[0]{id};
$provider->forget;
my ($headers, $body) = $provider->signed_webhook(id => $id);
my %forged = ('X-Signature' => 'f' x 64);

for my $uri (qw(/hook /verify)) {
    my $answer = request('POST', $nginx->url($uri), \%forged, $body);
    is_deeply([@$answer{qw(status body)}], [401, 'page for 401'],
        "$uri: the page of 401");
    $answer = get($nginx->url($uri));
    is_deeply([$answer->{status}, @{ $answer->{headers} }{qw(location allow)}],
        [302, 'https://example.com/', 'POST'], "$uri: elsewhere for 405");
}

my $answer = post($nginx->url('/generate'), '{');
is_deeply([@$answer{qw(status body)}], [422, 'named'],
    'generate: a named location');
$answer = get($nginx->url('/jobs/none'));
is_deeply([@$answer{qw(status body)}], [410, 'page for 410'],
    'job: another status');
my ($unknown, $text) = $provider->signed_webhook(id => 'nobody');
$answer = request('POST', $nginx->url('/hook'), $unknown, $text);
is_deeply([@$answer{qw(status body)}], [410, 'page for 410'],
    'webhook: the page of 404');

# the page of a refusal is in the location that refuses

$answer = request('POST', $nginx->url('/inside/'), \%forged, $body);
is_deeply([$answer->{status}, $answer->{json}{code}], [401, 'bad_signature'],
    'a page that would have to be verified is none');
$answer = request('GET', $nginx->url('/inside/'));
is_deeply([$answer->{status}, $answer->{headers}{location}],
    [405, undef], 'without a page for it: in JSON');
is(@{ $provider->requests }, 0, 'the application got nothing');

# the page of the application's failure is its own

$provider->on('POST', status => 503);
$provider->on('GET /inside/sorry', status => 200, body => 'sorry');
$answer = request('POST', $nginx->url('/inside/'), $headers, $body);
is_deeply([@$answer{qw(status body)}], [503, 'sorry'],
    'a page from the application');
is_deeply([map { "$_->{method} $_->{uri}" } @{ $provider->requests }],
    ['POST /inside/', 'GET /inside/sorry'], 'it was asked for it');
$provider->forget;
$answer = request('POST', $nginx->url('/inside/'), $headers, $body);
is_deeply([$answer->{status}, $answer->{headers}{'x-idempotent-replay'}],
    [200, undef], 'the webhook is new when it comes again');
$answer = request('POST', $nginx->url('/inside/'), $headers, $body);
is($answer->{headers}{'x-idempotent-replay'}, 'true', 'and then it is not');

# pages of pages end

$provider->forget;
is(request('POST', $nginx->url('/deep/'), \%forged, $body)->{status}, 401,
    'pages without an end');
is(@{ $provider->requests }, 0, 'lead nowhere');

# what was refused before is new

for my $uri (qw(/verify /hook)) {
    $answer = request('POST', $nginx->url($uri), $headers, $body);
    is_deeply([$answer->{status}, $answer->{headers}{'x-idempotent-replay'}],
        [200, undef], "$uri: passes at last");
}
