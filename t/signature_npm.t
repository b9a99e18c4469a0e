#!/usr/bin/perl

# Webhooks signed by the libraries that their senders publish verify as they
# are.  The libraries come from npm, as t/npm/package-lock.json pins them, into
# build/npm.

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Copy qw(copy);
use File::Path qw(make_path);
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use Test::More tests => 63;

use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Util qw(root slurp spew);

my %secret = (
    'standardwebhooks'          => whsec(24),
    'svix'                      => whsec(64),
    'stripe'                    => 'whsec_0123456789abcdefABCDEF',
    '@octokit/webhooks-methods' => 'a secret: with é and =',
);

my %bodies = (
    'an object'         => '{"id":"job-1","status":"completed"}',
    'an empty one'      => '{}',
    'white space'       => "{\r\n\t\"id\" : \"job-2\" ,\n \"n\": 1.50e+2 }\n",
    'other alphabets'   => '{"id":"job-3","text":"é 漢字 😀 \u00e9 \u2028"}',
    'no JSON'           => 'id=job-4&status=completed%20',
    'something long'    => '{"id":"' . 'x' x 250 . '","text":"'
        . 'ü' x 60_000 . '"}',
);

my $nginx = VidgenTest::Nginx->new(
    env => {
        map { ('SECRET_' . uc s/^.*\W//r => encode($secret{$_})) } keys %secret
    },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_provider standardwebhooks {
        webhook {
            signature  standard-webhooks;
            secret     env:SECRET_STANDARDWEBHOOKS;
            job_id     /id;
            status     /status;
        }
    }

    vidgen_provider svix {
        webhook {
            signature  standard-webhooks header=svix-signature
                       signed=$http_svix_id.$vidgen_timestamp.$vidgen_body
                       timestamp=svix-timestamp event_id=svix-id;
            secret     env:SECRET_SVIX;
            job_id     /id;
            status     /status;
        }
    }

    vidgen_provider stripe {
        webhook {
            signature  stripe;
            secret     env:SECRET_STRIPE;
            job_id     /id;
            status     /status;
        }
    }

    vidgen_provider methods {
        webhook {
            signature  github;
            secret     env:SECRET_METHODS;
            job_id     /id;
            status     /status;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 1m;

        location / {
            vidgen_verify  $arg_provider;
            proxy_pass     http://127.0.0.1:%%PORT_APP%%;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_APP%%;
        client_max_body_size 1m;
        return 204;
    }
}
EOT

# what each library is to sign, and what it is to be answered; the time is
# signed where there is one

my $dir = install();
my @webhooks;
for my $library (sort keys %secret) {
    my @usual = (library => $library, secret => $secret{$library},
        time => time, answer => 204);

    push @webhooks, map { { @usual, name => $_, id => "msg_$_" =~ tr/ /_/r,
        body => $bodies{$_} } } sort keys %bodies;
    push @webhooks, { @usual, name => 'another secret', id => 'msg_other',
        body => '{}', secret => whsec(32), answer => 401 };
    push @webhooks, { @usual, name => 'too old', id => 'msg_old',
        body => '{}', time => time - 310, answer => 401 }
        if $library !~ /octokit/;
}

my @headers = sign(@webhooks);
is(scalar @headers, scalar @webhooks, 'all are signed');

for my $i (0 .. $#webhooks) {
    my ($library, $name, $answer) = @{ $webhooks[$i] }{qw(library name
        answer)};
    my $body = encode($webhooks[$i]{body});
    is(hook($library, $headers[$i], $body), $answer, "$library: $name");
    is(hook($library, $headers[$i], "$body "), 401,
        "$library: $name, damaged");
}


sub hook {
    my ($library, $headers, $body) = @_;
    my ($provider) = $library =~ /(\w+)$/;
    return post($nginx->url("/?provider=$provider"), $body, $headers)
        ->{status};
}

sub whsec {
    my ($length) = @_;
    return 'whsec_' . encode_base64(join('', map { chr int rand 256 }
        1 .. $length), '');
}

sub encode { my ($text) = @_; utf8::encode($text); return $text }


# Puts what t/npm names into build/npm, unless it is there, and returns that
# folder.
sub install {
    my $from = root() . '/t/npm';
    my $to = root() . '/build/npm';
    my $lock = slurp("$from/package-lock.json");

    my ($npm) = grep { -x } map { "$_/npm" } split /:/, $ENV{PATH};
    die "vidgen test: no npm found (Debian: apt install nodejs npm)\n"
        unless defined $npm;

    make_path($to);
    copy("$from/$_", "$to/$_") or die "$to/$_: $!"
        for qw(package.json package-lock.json sign.mjs);
    return $to if (slurp("$to/installed") // '') eq $lock;

    # a network may fail once
    my $log = "$to/install.log";
    for my $pause (0, 5, 20) {
        sleep $pause;
        next if system("cd '$to' && '$npm' ci --ignore-scripts --no-audit"
            . " --no-fund >'$log' 2>&1");
        spew("$to/installed", $lock);
        return $to;
    }
    die "vidgen test: npm could not install the libraries:\n"
        . (slurp($log) // '');
}

sub sign {
    my (@webhooks) = @_;

    my $json = JSON::PP->new->utf8;
    spew("$dir/wanted.json", $json->encode(\@webhooks));
    my $headers = `cd '$dir' && node sign.mjs <wanted.json`;
    die "vidgen test: node could not sign\n" if $?;
    return @{ $json->decode($headers) };
}
